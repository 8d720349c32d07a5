"""From one row of a file or a hub data set to an `Example`, whatever its columns are called."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from latent_gemma.data.asdiv import asdiv_row
from latent_gemma.data.competition import math_row
from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, format_steps, parse_gsm8k
from latent_gemma.data.japanese import jemhopqa_row, niilc_row, quiz_row
from latent_gemma.data.mgsm import mgsm_row
from latent_gemma.data.multiarith import multiarith_row
from latent_gemma.data.prontoqa import prontoqa_row
from latent_gemma.data.svamp import msvamp_row, svamp_row
from latent_gemma.data.values import found, list_of, text_of
from latent_gemma.errors import DataError
from latent_gemma.text.language import detect_language

#: Where a row stands ("data.jsonl, line 3"), and the row or what is wrong with it.
Row = tuple[str, Any]
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
#: Published formats that only name their columns in their own way, recognised by question and answer.
_KNOWN = (
    FileColumns(),  # GSM8K, COCONUT, what this package writes
    FileColumns(question="problem"),  # Big-Math
    FileColumns(answer="final_ans"),  # the hub's MultiArith
    _INSTRUCTION,  # llm-japanese-dataset
    FileColumns(question="input", answer="target"),  # PAL
    FileColumns(question="prompt", answer="completion"),
)
#: Published formats that need more, recognised by the columns they alone have, and read into those of this package.
_PUBLISHED: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any], str], dict[str, Any]]], ...] = (
    (frozenset({"question", "answer", "derivations"}), jemhopqa_row),
    (frozenset({"context", "question", "options", "answer"}), prontoqa_row),
    (frozenset({"question", "answer", "answer_number"}), mgsm_row),
    (frozenset({"original_question", "original_answer"}), quiz_row),
    (frozenset({"text", "answers"}), niilc_row),
    (frozenset({"Body", "Question", "Answer", "Equation"}), svamp_row),
    (frozenset({"Body", "Question", "Answer"}), asdiv_row),
    (frozenset({"body", "question", "answer"}), asdiv_row),
    (frozenset({"m_query", "response"}), msvamp_row),
    (frozenset({"sQuestion", "lSolutions"}), multiarith_row),
    (frozenset({"problem", "solution"}), math_row),
)


def _published(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row of a published format with this package's columns, any other row as it is."""
    names = set(row)
    return next((read(row, where) for columns, read in _PUBLISHED if columns <= names), row)


def _recognised(names: Collection[str]) -> FileColumns | None:
    return next((known for known in _KNOWN if {known.question, known.answer} <= set(names)), None)


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
        raise DataError(f"{where}: expected an object with named columns, found {found(row)}")
    row = row if columns else _published(row, where)
    names = columns or _recognised(row)
    if names is None:
        raise DataError(
            f"{where}: expected columns 'question' and 'answer', found {', '.join(map(str, row)) or 'none'}",
            "name them with --question-column and --answer-column",
        )
    question, answer = text_of(row, names.question, where), text_of(row, names.answer, where)
    if columns is None and names is _INSTRUCTION and row.get("input") not in (None, ""):
        question = f"{question}\n{text_of(row, 'input', where)}"
    accepted = tuple(list_of(row, names.accepted, where))
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
        lines = list_of(row, names.steps, where)
    return Example(question, _as_asked(lines, steps_format), answer, detect_language(question), accepted)


def sound_examples(
    rows: Iterable[Row], read: Callable[[str, Any], Example], on_bad: Callable[[DataError], None] | None
) -> Iterator[Example]:
    """Read rows one after another.

    Args:
        rows: where each stands, and the row; or, in its place, the error that it could not be taken from the file.
        read: turns place and row into an example.
        on_bad: told of each row that cannot be read, which is then left out; None raises at the first.

    Yields:
        Examples, in order.

    Raises:
        DataError: for a row that cannot be read, without `on_bad`.
    """
    for where, row in rows:
        try:
            if isinstance(row, DataError):
                raise row
            example = read(where, row)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(error)
        else:
            yield example
