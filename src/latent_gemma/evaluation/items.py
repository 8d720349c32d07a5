"""The per-item log of an evaluation: what was asked, answered and accepted, one JSON object a line."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from latent_gemma.data.example import Example
from latent_gemma.errors import RunError
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.model.prompt import Written
from latent_gemma.text.answers import Grade

FILE = "items.jsonl"


@dataclass(frozen=True)
class Item:
    """One answer to one question under one setting.

    Args:
        label: the method.
        k: latent steps.
        p: share of the token embedding; None where no latent step is taken.
        control: what stands in the thought positions; see `EvalRow`.
        question: the question.
        expected: the accepted answers.
        answer: what the model answered.
        reasoning: its written steps.
        correct: under lenient matching.
        strict: under strict matching.
        tokens: generated tokens.
        finished: whether it ended by itself.
    """

    label: str
    k: int
    p: float | None
    control: str
    question: str
    expected: tuple[str, ...]
    answer: str
    reasoning: str
    correct: bool
    strict: bool
    tokens: int
    finished: bool


def make_items(
    row: EvalRow, examples: Sequence[Example], answers: Sequence[Written], grades: Sequence[Grade]
) -> list[Item]:
    """The items a row was counted from.

    Args:
        row: the row.
        examples: the questions.
        answers: one each.
        grades: one each.

    Returns:
        One item a question.
    """
    return [
        Item(
            row.label, row.k, row.p, row.control, example.question, example.answers, answer.answer, answer.reasoning,
            grade.lenient, grade.strict, answer.tokens, answer.finished,
        )
        for example, answer, grade in zip(examples, answers, grades, strict=True)
    ]  # fmt: skip


def append_items(path: Path, items: Iterable[Item]) -> None:
    """Add items to a log.

    Args:
        path: the file; made if missing.
        items: what to add.
    """
    with path.open("a", encoding="utf-8", newline="\n") as file:
        for item in items:
            file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")


def read_items(path: Path) -> list[Item]:
    """Read a log.

    Args:
        path: the file.

    Returns:
        Its items; a last line that a kill cut off is left out.

    Raises:
        RunError: if there is no such file, or a line other than the last is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read", "give the folder of an evaluation") from error
    names = {field.name for field in fields(Item)}
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            if set(data) != names:
                raise ValueError
            items.append(Item(**(data | {"expected": tuple(data["expected"])})))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            raise RunError(f"{path}, line {number} is no item of an evaluation", "run the evaluation again") from error
    return items
