"""From one row of a file or a hub data set to an `Example`, whatever its columns are called."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, format_steps, parse_gsm8k
from latent_gemma.errors import DataError
from latent_gemma.text.language import detect_language

_TAGGED = re.compile(r"\s*(?:<reasoning>(.*?)</reasoning>)?\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@dataclass(frozen=True)
class FileColumns:
    """Names of the columns.

    Args:
        question: holds the question.
        steps: holds the steps: a list, or text with one step a line; may be missing from the data.
        answer: holds the answer.
        accepted: holds a list of further answers that count as correct; may be missing from the data.
    """

    question: str = "question"
    steps: str = "steps"
    answer: str = "answer"
    accepted: str = "accepted"


_INSTRUCTION = FileColumns(question="instruction", answer="output")
#: Published formats, recognised by their question and answer columns.
_KNOWN = (
    FileColumns(),  # GSM8K, COCONUT, what this package writes
    FileColumns(question="problem", steps="solution"),  # Big-Math
    _INSTRUCTION,  # llm-japanese-dataset
    FileColumns(question="input", answer="target"),  # PAL
    FileColumns(question="prompt", answer="completion"),
    FileColumns(question="original_question", answer="original_answer"),  # AI王 quiz
)


def recognise(names: Collection[str]) -> FileColumns | None:
    """The columns of the published format that these column names fit, or None."""
    return next((known for known in _KNOWN if {known.question, known.answer} <= set(names)), None)


def _found(value: Any) -> str:
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


def _written(value: Any) -> str | None:
    """A text or a number as text; None if it is neither, empty, or cannot be written as UTF-8."""
    if isinstance(value, float) and math.isfinite(value):
        # 14.0 is 14 to whoever answers, and 1e-05 is 0.00001.
        return f"{Decimal(repr(value)).normalize():f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or _is_broken(value):
        return None
    return value.strip() or None


def _is_broken(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which JSON can hold and tokenizers choke on."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    if column not in row:
        raise DataError(
            f"{where}, column {column!r}: expected text or a number, found no such column",
            f"the columns are {', '.join(map(str, row)) or 'none'}",
        )
    text = _written(row[column])
    if text is None:
        raise DataError(f"{where}, column {column!r}: expected text or a number, found {_found(row[column])}")
    return text


def _list(row: Mapping[str, Any], column: str, where: str) -> list[str]:
    """A list of texts, or a text with one entry a line; empty if there is none."""
    value = row.get(column)
    if value is None:
        return []
    entries = value.split("\n") if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise DataError(f"{where}, column {column!r}: expected a list of texts or a text, found {_found(value)}")
    texts = []
    for entry in entries:
        text = _written(entry)
        if text is not None:
            texts.append(text)
        elif not isinstance(entry, str) or entry.strip():
            raise DataError(f"{where}, column {column!r}: expected a list of texts, found {_found(entry)} in it")
    return texts


def _as_asked(lines: list[str], steps_format: StepsFormat) -> tuple[str, ...]:
    """Annotated steps in the format asked for; steps without any annotation as they are."""
    return format_steps(lines, steps_format) if any("<<" in line for line in lines) else tuple(lines)


def parse_row(row: Any, columns: FileColumns | None, steps_format: StepsFormat, where: str) -> Example:
    """Read one row.

    Args:
        row: column name -> value.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.
        where: file and line, for messages.

    Returns:
        The example. Answers with `####` are read as GSM8K's, answers with an `<answer>` tag as tagged completions.

    Raises:
        DataError: naming file, line and column, and what was expected there.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with named columns, found {_found(row)}")
    names = columns or recognise(row)
    if names is None:
        raise DataError(
            f"{where}: expected columns 'question' and 'answer', found {', '.join(map(str, row)) or 'none'}",
            "name them with --question-column and --answer-column",
        )
    question, answer = _text(row, names.question, where), _text(row, names.answer, where)
    if columns is None and names is _INSTRUCTION and row.get("input") not in (None, ""):
        question = f"{question}\n{_text(row, 'input', where)}"
    accepted = tuple(_list(row, names.accepted, where))
    if "####" in answer:
        example = parse_gsm8k(question, answer, steps_format)
        if example is None:
            raise DataError(f"{where}, column {names.answer!r}: expected an answer after ####, found nothing")
        return example
    if "<answer>" in answer or "<reasoning>" in answer:
        tagged = _TAGGED.fullmatch(answer)
        if tagged is None or not tagged[2].strip():
            raise DataError(
                f"{where}, column {names.answer!r}: expected <reasoning>..</reasoning><answer>..</answer>, "
                f"found {answer[:40]!r}"
            )
        lines, answer = [line.strip() for line in (tagged[1] or "").split("\n") if line.strip()], tagged[2].strip()
    else:
        lines = _list(row, names.steps, where)
    return Example(question, _as_asked(lines, steps_format), answer, detect_language(question), accepted)
