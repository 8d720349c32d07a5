"""What kind of answers a data set has, which decides how they are compared."""

import re
from collections.abc import Sequence
from pathlib import Path

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec
from latent_gemma.data.local import file_format
from latent_gemma.data.rows import CHOICES
from latent_gemma.data.task_list import TASKS, AnswerKind
from latent_gemma.text.language import translation_target
from latent_gemma.text.normalize import normalize_answer, parse_number

#: How answers of each kind are compared, in words.
COMPARED: dict[AnswerKind, str] = {
    "number": "as numbers, by value",
    "math": "as mathematical expressions, by math-verify",
    "choice": "in spelling",
    "text": "in spelling, or as numbers",
    "translation": "in spelling",
}
_LATEX = re.compile(r"\\[A-Za-z]")


def answer_kind(spec: DataSpec, examples: Sequence[Example]) -> AnswerKind:
    """Tell what kind of answers a data set has.

    Args:
        spec: where it comes from.
        examples: what was read, at least one.

    Returns:
        What its task or the published format of its file says. Of a format that says nothing, its answers do: "math"
        if one is written in LaTeX, "translation" if every question asks for one, "number" if all are numbers, and else
        "text", which no answer of another spelling passes but a number of the same value.
    """
    known = _by_source(spec)
    if known is not None:
        return known
    if any(_LATEX.search(answer) for example in examples for answer in example.answers):
        return "math"
    if all(translation_target(example.question) for example in examples):
        return "translation"
    numbers = (parse_number(normalize_answer(example.answer)) is not None for example in examples)
    return "number" if all(numbers) else "text"


def _by_source(spec: DataSpec) -> AnswerKind | None:
    """What the tasks that have this source or format agree on; None where they do not, or none has."""
    name = spec.source.partition(":")[0]
    if spec.is_generated or spec.is_hub_name:
        kinds = {task.answer_kind for task in TASKS.values() if task.source.partition(":")[0] == name}
    else:
        published = file_format(Path(spec.source).expanduser())
        if published in CHOICES:
            return "choice"
        kinds = {task.answer_kind for task in TASKS.values() if published in task.formats}
    return kinds.pop() if len(kinds) == 1 else None
