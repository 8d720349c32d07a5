"""What an evaluation is counted from: one record an answer."""

import io
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from latent_gemma.choices import NumThoughts
from latent_gemma.data.example import Example
from latent_gemma.errors import RunError
from latent_gemma.evaluation.results import mode_of_older
from latent_gemma.model.prompt import Mode, Written
from latent_gemma.text.answers import Grade, extract_answer

FILE = "items.jsonl"


@dataclass(frozen=True)
class Setting:
    """What was varied: an item of a log is told by its setting and its index.

    Args:
        label: the method as shown to people.
        k: latent steps, or "auto".
        p: share of the token embedding; None where no latent step is taken.
        control: what stands in the thought positions; see `EvalRow`.
        mode: the model was asked in.
    """

    label: str
    k: NumThoughts
    p: float | None
    control: str = "none"
    mode: Mode = "latent"


@dataclass(frozen=True)
class TraceItem:
    """One sampled answer of a vote.

    Args:
        answer: what the trace answered.
        reasoning: its written steps.
        ballot: the answer it votes for, in one spelling for all traces whose answers are equal; None if it has none.
        logprob: mean log-probability of its tokens, nats.
        temperature: it was sampled at.
        correct: under lenient matching.
        strict: under strict matching.
        complete: in the format asked for.
        tokens: generated tokens.
        finished: whether it ended by itself.
    """

    answer: str
    reasoning: str
    ballot: str | None
    logprob: float
    temperature: float
    correct: bool
    strict: bool
    complete: bool
    tokens: int
    finished: bool


@dataclass(frozen=True)
class Item:
    """One answer to one question under one setting.

    Args:
        label: see `Setting`.
        k: see `Setting`.
        p: see `Setting`.
        control: see `Setting`.
        index: position of the question among those asked, from 0.
        question: the question.
        language: of the question.
        wanted: the language the answer should be in.
        expected: the accepted answers.
        answer: what the model answered; of a vote the winner.
        reasoning: its written steps.
        extracted: the answer that the lenient rules found; None if they found none.
        marked: whether the strict rules found one: in an answer mark, or where the prompt's format puts it.
        correct: under lenient matching.
        strict: under strict matching.
        complete: in the format asked for; None where none was.
        tokens: generated tokens, those of all traces together.
        latent_steps: latent steps it took, those of all traces together.
        finished: whether it ended by itself; of a vote, whether any trace did.
        seconds: wall-clock time of its batch divided by the batch's questions.
        peak_mem_gib: peak memory of its batch; None where it cannot be had.
        traces: of a vote.
        mode: see `Setting`.
        parallel_passes: see `Cost`.
        answer_logprob: log-probability of the right answer and its end, nats; None where it was not scored.
        donor_correct: of swapped thoughts, whether the answer is right for the question they came from; None where
            both questions have the same answer.
        expected_steps: K that the written steps of the question ask for; None where the data has none.
    """

    label: str
    k: NumThoughts
    p: float | None
    control: str
    index: int
    question: str
    language: str
    wanted: str
    expected: tuple[str, ...]
    answer: str
    reasoning: str
    extracted: str | None
    marked: bool
    correct: bool
    strict: bool
    complete: bool | None
    tokens: int
    latent_steps: int
    finished: bool
    seconds: float
    peak_mem_gib: float | None
    traces: tuple[TraceItem, ...] = ()
    mode: Mode = "latent"
    answer_logprob: float | None = None
    donor_correct: bool | None = None
    expected_steps: int | None = None
    parallel_passes: int | None = None

    @property
    def passes(self) -> int:
        """Decoder passes behind the prompt: one a generated token and latent step, or those over all steps at once."""
        steps, most = self.latent_steps, self.parallel_passes
        return self.tokens + (steps if most is None else min(steps, most * max(1, len(self.traces))))

    @property
    def setting(self) -> Setting:
        """What it was answered under."""
        return Setting(self.label, self.k, self.p, self.control, self.mode)


@dataclass(frozen=True)
class Cost:
    """What each answer of a batch cost; see `Item`.

    Args:
        seconds: see `Item`.
        peak_mem_gib: see `Item`.
        parallel_passes: T, the most decoder passes that its latent steps take; None where each is one.
    """

    seconds: float
    peak_mem_gib: float | None
    parallel_passes: int | None = None


def is_marked(written: Written) -> bool:
    """Whether the strict rules find an answer: in a mark, or where the format of the prompt puts it."""
    return extract_answer(written.graded, strict=True) is not None or (written.complete and written.finished)


@dataclass(frozen=True)
class Extra:
    """What is known of an answer besides what was written; see `Item`."""

    latent_steps: int
    answer_logprob: float | None
    donor_correct: bool | None
    expected_steps: int | None


def single_item(
    setting: Setting, index: int, example: Example, wanted: str, written: Written, grade: Grade, cost: Cost,
    extra: Extra,
) -> Item:  # fmt: skip
    """The record of one greedy answer.

    Args:
        setting: what it was answered under.
        index: position of the question.
        example: the question.
        wanted: the language the answer should be in.
        written: what the model wrote.
        grade: how it was graded.
        cost: its share of the batch's.
        extra: what else is known of it.

    Returns:
        The item.
    """
    return Item(
        **asdict(setting), index=index, question=example.question, language=example.language, wanted=wanted,
        expected=example.answers, answer=written.answer, reasoning=written.reasoning, extracted=grade.extracted or None,
        marked=is_marked(written), correct=grade.lenient, strict=grade.strict,
        complete=written.complete if setting.mode == "words" else None, tokens=written.tokens,
        finished=written.finished, seconds=cost.seconds, peak_mem_gib=cost.peak_mem_gib,
        parallel_passes=cost.parallel_passes, **asdict(extra),
    )  # fmt: skip


def to_line(item: Item) -> bytes:
    """An item as a line of a log; half a surrogate pair in it is written as its escape."""
    return json.dumps(asdict(item), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


_NAMES = {field.name for field in fields(Item)}
#: Of fields that older versions did not write.
_DEFAULTS = {field.name: field.default for field in fields(Item) if field.default is not MISSING}


def _from_data(data: dict[str, Any]) -> Item:
    # logs of older versions are read, for comparisons
    data = {**_DEFAULTS, "mode": mode_of_older(data), **data}
    if set(data) != _NAMES:
        raise ValueError("other fields")
    traces = tuple(TraceItem(**trace) for trace in data["traces"])
    return Item(**{**data, "expected": tuple(data["expected"]), "traces": traces})


def read_log(path: Path) -> tuple[list[Item], int]:
    """Read a log as far as it is whole.

    Args:
        path: the file.

    Returns:
        Its items, and the bytes they take: a last line that a kill cut off is left out of both.

    Raises:
        RunError: if there is no such file, or a line other than the last is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read", "give the folder of an evaluation") from error
    items: list[Item] = []
    whole = 0
    # Split at "\n" alone: an answer may hold other characters that end a line.
    for number, line in enumerate(io.BytesIO(data), start=1):
        try:
            if not line.endswith(b"\n"):
                break
            items.append(_from_data(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            if whole + len(line) == len(data):
                break
            raise RunError(f"{path}, line {number} is no item of an evaluation", "run the evaluation again") from error
        whole += len(line)
    return items, whole


def read_items(path: Path) -> list[Item]:
    """Read a log; see `read_log`."""
    return read_log(path)[0]
