"""Any local file: JSON Lines, JSON, CSV, TSV, Parquet, and the `question||steps #### answer` text format."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, parse_internalized
from latent_gemma.data.rows import FileColumns, parse_row
from latent_gemma.errors import DataError

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def _decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; a byte-order mark and carriage returns are dropped, bad UTF-8 is refused."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}, byte {error.start + 1}: expected UTF-8", "save the file as UTF-8"
                ) from error
            yield number, line.rstrip("\r\n")


def _json(text: str, path: Path, line: int) -> Any:
    def refuse(token: str) -> Any:
        raise DataError(f"{path}, line {line}: {token} is no JSON value", "write null, or leave the row out")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise DataError(f"{path}, line {at}, column {error.colno}: expected JSON, found {error.msg.lower()}") from error
    except RecursionError as error:
        raise DataError(f"{path}, line {line}: the JSON is nested too deep") from error


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        for number, line in _decoded_lines(path):
            if line.strip():
                yield f"{path}, line {number}", _json(line, path, number)
    elif suffix == ".json":
        text = "\n".join(line for _, line in _decoded_lines(path))
        if not text.strip():
            return
        data = _json(text, path, 1)
        if not isinstance(data, list):
            raise DataError(f"{path}: expected a JSON array of rows, found {type(data).__name__}")
        for number, row in enumerate(data, start=1):
            yield f"{path}, row {number}", row
    elif suffix in (".csv", ".tsv"):
        lines = (line + "\n" for _, line in _decoded_lines(path))
        reader = csv.DictReader(lines, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise DataError(f"{where}: expected {len(reader.fieldnames or ())} columns, found more")
                yield where, {key: value for key, value in row.items() if value is not None}
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: expected CSV, found {error}") from error
    else:
        yield from _parquet_rows(path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: expected Parquet, found {str(error).splitlines()[0]}") from error


def read_file(
    path: Path, columns: FileColumns | None = None, steps_format: StepsFormat = "natural"
) -> Iterator[Example]:
    """Read a local file, row by row.

    Args:
        path: the file; its suffix says what it is.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.

    Yields:
        Examples, in order.

    Raises:
        DataError: for a missing file, an unknown suffix, or a malformed row (naming file, line and column).
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder", "give one of its files")
    if not path.exists():
        raise DataError(f"there is no file {path}", "check the path")
    if path.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{path} is of an unknown kind", f"known are {', '.join(_SUFFIXES)}")
    if path.suffix.lower() == ".txt":
        for number, line in _decoded_lines(path):
            if not line.strip():
                continue
            example = parse_internalized(line, steps_format)
            if example is None:
                raise DataError(f"{path}, line {number}: expected question||steps #### answer")
            yield example
        return
    for where, row in _rows(path):
        yield parse_row(row, columns, steps_format, where)
