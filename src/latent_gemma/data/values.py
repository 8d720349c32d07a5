"""Single values of a row: text, numbers as text, lists of texts; what is wrong is named with its place."""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from latent_gemma.errors import DataError
from latent_gemma.text.normalize import normalize_answer, parse_number, strip_thousands

#: The columns that hold what a question is about.
TEXTS = ("context", "passage", "article", "dialogue")
_WHOLE = re.compile(r"([0-9])\.0+(?![0-9.])")


def once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names and values as a dictionary.

    Args:
        pairs: a row's columns, or the members of a JSON object.

    Returns:
        The dictionary.

    Raises:
        ValueError: if a name stands twice: which of its values is meant is anybody's guess.
    """
    row: dict[str, Any] = {}
    for name, value in pairs:
        if name in row:
            raise ValueError(f"{name!r} stands twice")
        row[name] = value
    return row


def _is_broken(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which JSON can hold and tokenizers choke on."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def found(value: Any) -> str:
    """What a wrong value is, in the words of a JSON file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return "NaN" if math.isnan(value) else "infinity" if math.isinf(value) else "a number"
    if isinstance(value, str):
        return "text that is no valid Unicode" if _is_broken(value) else "text" if value.strip() else "nothing"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, Mapping) else type(value).__name__


def written(value: Any) -> str | None:
    """A text or a number as text; None if it is neither, empty, or cannot be written as UTF-8."""
    if isinstance(value, float) and math.isfinite(value):
        # 14.0 is 14 to whoever answers, and 1e-05 is 0.00001.
        return f"{Decimal(repr(value)).normalize():f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or _is_broken(value):
        return None
    return value.strip() or None


def names_of(row: Mapping[str, Any]) -> str:
    """The names of a row's columns for a message, the first dozen of them."""
    names = [str(name)[:40] for name in row]
    return ", ".join(names[:12]) + (", .." if len(names) > 12 else "") or "none"


def text_of(row: Mapping[str, Any], column: str, where: str) -> str:
    """Read a text, or a number as text.

    Args:
        row: column name -> value.
        column: which.
        where: file and line, for messages.

    Returns:
        The text, stripped, never empty.

    Raises:
        DataError: if the column is missing or holds something else.
    """
    if column not in row:
        raise DataError(
            f"{where}, column {column!r}: expected text or a number, found no such column",
            f"the columns are {names_of(row)}",
        )
    text = written(row[column])
    if text is None:
        raise DataError(f"{where}, column {column!r}: expected text or a number, found {found(row[column])}")
    return text


def number_of(row: Mapping[str, Any], column: str, where: str) -> str:
    """Read a number as text, without thousands separators and ".0".

    Args:
        row: column name -> value.
        column: which.
        where: file and line, for messages.

    Returns:
        The number.

    Raises:
        DataError: if the column is missing or holds something else.
    """
    text = text_of(row, column, where)
    number = whole_numbers(strip_thousands(text))
    if parse_number(normalize_answer(number)) is None:
        raise DataError(f"{where}, column {column!r}: expected a number, found {text[:40]!r}")
    return number


def list_of(row: Mapping[str, Any], column: str, where: str) -> list[str]:
    """Read a list of texts, or a text with one entry a line.

    Args:
        row: column name -> value.
        column: which.
        where: file and line, for messages.

    Returns:
        The entries that are not blank; none if the column is missing or null.

    Raises:
        DataError: if the column holds something else.
    """
    value = row.get(column)
    if value is None:
        return []
    entries = value.split("\n") if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise DataError(f"{where}, column {column!r}: expected a list of texts or a text, found {found(value)}")
    texts = []
    for entry in entries:
        text = written(entry)
        if text is not None:
            texts.append(text)
        elif not isinstance(entry, str) or entry.strip():
            raise DataError(f"{where}, column {column!r}: expected a list of texts, found {found(entry)} in it")
    return texts


def on_its_text(row: Mapping[str, Any], where: str, asked: str = "question") -> str:
    """Read a question with the text that it is about, where the row has one (`TEXTS`: a text, or a list of them).

    Args:
        row: column name -> value.
        where: file and line, for messages.
        asked: the column of the question.

    Returns:
        The text, and the question on a line of its own.

    Raises:
        DataError: if the question is missing, or either is of another kind: without its text a question has no answer.
    """
    name = next((name for name in TEXTS if row.get(name) not in (None, "", [])), None)
    if name is None:
        return text_of(row, asked, where)
    if isinstance(row[name], Mapping):
        raise DataError(
            f"{where}, column {name!r}: expected text, found an object",
            f"to ask without it, give --question-column {asked} --answer-column answer",
        )
    return "\n".join([*list_of(row, name, where), text_of(row, asked, where)])


def answers_of(row: Mapping[str, Any], column: str, where: str) -> tuple[str, list[str]]:
    """Read a list of answers that all count as correct.

    Args:
        row: column name -> value.
        column: which.
        where: file and line, for messages.

    Returns:
        The first answer, and the others without repetition.

    Raises:
        DataError: if there is none, or the column holds something else.
    """
    answers = list(dict.fromkeys(list_of(row, column, where)))
    if not answers:
        raise DataError(f"{where}, column {column!r}: expected at least one answer, found nothing")
    return answers[0], answers[1:]


def whole_numbers(text: str) -> str:
    """Write 8.0 as 8 wherever it stands in a text; 8.05 stays."""
    return _WHOLE.sub(r"\1", text)


def annotated(formula: str) -> str:
    """Write a formula such as "(8.0-3.0)=5.0" as a worked line with GSM8K's annotation: "(8-3)=<<(8-3)=5>>5".

    Args:
        formula: with or without "="; spaces and ".0" are dropped.

    Returns:
        The line; without "=" the tidied formula alone.
    """
    compact = whole_numbers("".join(formula.split()))
    left, equals, value = compact.rpartition("=")
    return f"{left}=<<{left}={value}>>{value}" if equals else compact
