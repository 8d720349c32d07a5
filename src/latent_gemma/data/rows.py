"""From one row of a file or a hub data set to an `Example`, whatever its columns are called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, format_steps, is_gsm8k_answer, parse_gsm8k
from latent_gemma.errors import DataError
from latent_gemma.text.language import detect_language

_TAGGED = re.compile(r"<reasoning>(.*?)</reasoning>\s*<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True)
class FileColumns:
    """Names of the columns.

    Args:
        question: holds the question.
        steps: holds the steps: a list, or text with one step a line; may be missing from the data.
        answer: holds the answer.
    """

    question: str = "question"
    steps: str = "steps"
    answer: str = "answer"


#: Published formats, recognised by their columns: COCONUT and GSM8K, Big-Math, llm-japanese-dataset, PAL, tagged rows.
_KNOWN = (
    FileColumns(),
    FileColumns(question="problem", steps="solution", answer="answer"),
    FileColumns(question="instruction", steps="", answer="output"),
    FileColumns(question="input", steps="", answer="target"),
    FileColumns(question="prompt", steps="", answer="completion"),
)


def recognise(names: set[str]) -> FileColumns | None:
    """The columns of a published format that these names fit, or None."""
    return next((known for known in _KNOWN if {known.question, known.answer} <= names), None)


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    if column not in row:
        raise DataError(
            f"{where}, column {column!r}: expected text, found no such column",
            f"columns there are {', '.join(map(str, row)) or 'none'}",
        )
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value != value:
        found = "null" if value is None else "not a number" if value != value else type(value).__name__
        raise DataError(f"{where}, column {column!r}: expected text or a number, found {found}")
    text = str(value).strip()
    if not text:
        raise DataError(f"{where}, column {column!r}: expected text or a number, found nothing")
    return text


def _steps(row: Mapping[str, Any], column: str, steps_format: StepsFormat, where: str) -> tuple[str, ...]:
    value = row.get(column) if column else None
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split("\n")
    if not isinstance(value, (list, tuple)) or not all(isinstance(step, str) for step in value):
        raise DataError(f"{where}, column {column!r}: expected a list of texts, or text with one step a line")
    lines = [step.strip() for step in value if step.strip()]
    return (
        format_steps(lines, steps_format)
        if any("<<" in line for line in lines) and steps_format != "natural"
        else tuple(lines)
    )


def parse_row(row: Any, columns: FileColumns | None, steps_format: StepsFormat, where: str) -> Example:
    """Read one row.

    Args:
        row: column name -> value.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.
        where: file and line, for messages.

    Returns:
        The example.

    Raises:
        DataError: naming file, line and column, and what was expected there.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with named columns, found {type(row).__name__}")
    known = columns or recognise(set(row))
    if known is None:
        raise DataError(
            f"{where}: expected columns 'question' and 'answer', found {', '.join(map(str, row)) or 'none'}",
            "name them with --question-column and --answer-column",
        )
    question, answer = _text(row, known.question, where), _text(row, known.answer, where)
    if known.question == "instruction" and row.get("input"):
        question = f"{question}\n{_text(row, 'input', where)}"
    tagged = _TAGGED.search(answer)
    if tagged:
        lines = tuple(line.strip() for line in tagged[1].split("\n") if line.strip())
        return Example(question, lines, tagged[2].strip(), detect_language(question))
    if is_gsm8k_answer(answer):
        example = parse_gsm8k(question, answer, steps_format)
        if not example.answer:
            raise DataError(f"{where}, column {known.answer!r}: expected an answer after ####, found nothing")
        return example
    return Example(question, _steps(row, known.steps, steps_format, where), answer, detect_language(question))
