"""Any local file: JSON Lines, JSON, CSV, TSV, XML, Parquet, and text, which holds lines, a table or JSON Lines."""

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, parse_internalized
from latent_gemma.data.mgsm import file_language, is_mgsm, mgsm_example
from latent_gemma.data.multiplication import is_multiplication
from latent_gemma.data.prontoqa import generated_rows
from latent_gemma.data.reading import rows_within
from latent_gemma.data.rows import ANYBODYS, FileColumns, Row, parse_row, row_format, sound_examples
from latent_gemma.data.values import once_each
from latent_gemma.data.xml_rows import xml_rows
from latent_gemma.errors import DataError
from latent_gemma.ranges import missing
from latent_gemma.text.normalize import normalize_answer, parse_number


def _decoded(raw: bytes, path: Path, number: int) -> str:
    """A line without byte-order mark and line end; bad UTF-8 is refused."""
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}, byte {error.start + 1}: expected UTF-8", "save the file as UTF-8"
        ) from error


def _decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            yield number, _decoded(raw, path, number)


def _line_rows(path: Path, read: Callable[[str, Path, int], Any]) -> Iterator[Row]:
    """One row a line, blank lines left out; a line that cannot be read costs no other line."""
    row: Any
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = _decoded(raw, path, number)
                if not line.strip():
                    continue
                row = read(line, path, number)
            except DataError as error:
                row = error
            yield f"{path}, line {number}", row


def _json(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once_each)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}, line {line}, column {error.colno}: invalid JSON, {error.msg}") from error
    except (RecursionError, ValueError) as error:  # nested too deep; a number of thousands of digits; a name twice
        raise DataError(f"{path}, line {first_line}: JSON that cannot be read, {error}") from error


def _is_row(line: str) -> bool:
    """Whether a line is an object that is one row, and no whole file."""
    try:
        data = json.loads(line)
    except (RecursionError, ValueError):
        return False
    return isinstance(data, dict) and generated_rows(data) is None and _held(data) == [data]


def _held(data: dict[str, Any]) -> list[Any]:
    """The rows of a file that is one object: those within it, or itself, as MATH has one problem a file."""
    return [data] if row_format(data) else rows_within(data)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    yield from _line_rows(path, _json)


def _text_rows(path: Path) -> Iterator[Row]:
    """As the first line shows: JSON Lines, a table (the AI王 quiz's), or lines `question||steps #### answer`."""
    with path.open("rb") as file:
        first = next(filter(None, (raw.strip(b"\xef\xbb\xbf \r\n") for raw in file)), b"")
    if first.startswith(b"{"):
        yield from _jsonl_rows(path)
    elif b"\t" in first and b"||" not in first:
        yield from _tsv_rows(path)
    else:
        yield from _line_rows(path, lambda line, *_: line)


def _json_rows(path: Path) -> Iterator[Row]:
    text = "\n".join(line for _, line in _decoded_lines(path))
    if not text.strip():
        return
    if text.lstrip().startswith("{") and _is_row(text.lstrip().split("\n", 1)[0]):
        yield from _jsonl_rows(path)  # MSVAMP's JSON Lines are called .json
        return
    data = _json(text, path, 1)
    generated = generated_rows(data) if isinstance(data, dict) else None
    if generated is not None:
        yield from ((f"{path}, {name}", row) for name, row in generated.items())
        return
    rows = _held(data) if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a JSON array of rows, found one {type(data).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _table_lines(path: Path, broken: list[DataError]) -> Iterator[str]:
    """Lines of a table; one that is no UTF-8 adds to `broken` and costs the row it is in, behind the header."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield _decoded(raw, path, number) + "\n"
            except DataError as error:
                if number == 1:
                    raise
                broken.append(error)
                yield raw.decode("utf-8", "replace")


def _csv_rows(path: Path) -> Iterator[Row]:
    broken: list[DataError] = []
    yield from _table_rows(path, csv.DictReader(_table_lines(path, broken), restval="", strict=True), broken)


def _tsv_rows(path: Path) -> Iterator[Row]:
    """Tab-separated values have no quoting, and MGSM's no header: two columns, the second a number."""
    broken: list[DataError] = []
    lines = _table_lines(path, broken)
    first = next(lines, "")
    fields = first.split("\t")
    numbered = len(fields) == 2 and parse_number(normalize_answer(fields[1])) is not None
    headless = numbered or (is_mgsm(path) and "question" not in fields)
    names = ("question", "answer") if headless else None
    table = itertools.chain([first], lines)
    reader = csv.DictReader(table, names, restval="", delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    yield from _table_rows(path, reader, broken)


def _table_rows(path: Path, reader: csv.DictReader, broken: list[DataError]) -> Iterator[Row]:
    try:
        once_each((name, None) for name in reader.fieldnames or ())
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if broken:  # the reader takes no line ahead of its row
                yield where, broken[0]
                broken.clear()
            elif None in row:
                yield where, DataError(f"{where}: expected {len(reader.fieldnames or ())} columns, found more")
            else:
                yield where, row
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, line {reader.reader.line_num}: expected a table, {error}") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(1024))
            for number, row in enumerate(rows, start=1):
                yield f"{path}, row {number}", row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: expected Parquet, found {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".xml": xml_rows,
    ".parquet": _parquet_rows,
    ".txt": _text_rows,
}
#: Suffixes of the files that can be read.
SUFFIXES = tuple(_READERS)


#: How the files begin that git has in the place of large ones.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def _check_file(path: Path) -> str:
    """The suffix of a file that can be read."""
    if path.is_dir():
        raise DataError(f"{path} is a folder", "give one of its files")
    if not path.exists():
        remedy = missing(path, "check the path; a hub name is written owner/name")
        raise DataError(f"there is no file {path}", remedy)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is of an unknown kind", f"name it with one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if is_pointer:
        raise DataError(f"{path} is a pointer of Git LFS, not the file itself", "fetch that with git lfs pull")
    return suffix


def file_format(path: Path) -> str | None:
    """Whose published format a file has, told by its first sound row.

    Args:
        path: the file.

    Returns:
        Who publishes it, such as "SVAMP", or one of `rows.ANYBODYS`; None if it is not recognised.

    Raises:
        DataError: for a missing file, an unknown suffix, or a file that is not of its kind.
    """
    suffix = _check_file(path)
    try:
        row = next((row for _, row in _READERS[suffix](path) if not isinstance(row, DataError)), None)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if isinstance(row, str) and "||" in row:
        return "digit-wise multiplication" if is_multiplication(row.partition("||")[0].strip()) else "GSM8K"
    found = row_format(row)
    return "MGSM" if found == ANYBODYS[0] and is_mgsm(path) else found


def read_file(
    path: Path,
    columns: FileColumns | None = None,
    steps_format: StepsFormat = "natural",
    on_bad: Callable[[DataError], None] | None = None,
) -> Iterator[Example]:
    """Read a local file, row by row.

    Args:
        path: the file; its suffix says what it is: .jsonl, .json (an array, or JSON Lines), .csv, .tsv, .xml,
            .parquet, or .txt with lines `question||steps #### answer`, a table with tabs, or JSON Lines.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.
        on_bad: told of each malformed row, which is then left out; None raises at the first.

    Yields:
        Examples, in order, in the language that a published file's name says (`mgsm_de.tsv`).

    Raises:
        DataError: for a missing file, an unknown suffix, a file that is not of its kind, or a malformed row (naming
            file, line and column).
    """
    suffix, language = _check_file(path), file_language(path)

    def read(where: str, row: Any) -> Example:
        if suffix == ".txt" and isinstance(row, str):
            return _internalized(row, steps_format, where)
        example = parse_row(row, columns, steps_format, where)
        if language is None:
            return example
        return mgsm_example(example, language, where) if is_mgsm(path) else replace(example, language=language)

    try:
        yield from sound_examples(_READERS[suffix](path), read, on_bad)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _internalized(line: str, steps_format: StepsFormat, where: str) -> Example:
    example = parse_internalized(line, steps_format)
    if example is None:
        raise DataError(f"{where}: expected question||steps #### answer, found {line[:40]!r}")
    return example
