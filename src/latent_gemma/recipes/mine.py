"""`latent-gemma data mine`: right answers with false steps, found among what a run sampled."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from latent_gemma.data.writing import write_lines
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.evaluation.items import FILE, read_items
from latent_gemma.options.samples import Mine
from latent_gemma.text.equations import find_equations
from latent_gemma.text.tags import parse_tagged, write_tagged
from latent_gemma.training.reward_watch import SAMPLES
from latent_gemma.training.run_log import read_metrics


class Trace(NamedTuple):
    """A right answer with its reasoning.

    Args:
        question: what was asked.
        text: reasoning and answer between their tags.
    """

    question: str
    text: str


@dataclass
class Sorted:
    """The right answers to one question, each once, by their steps.

    Args:
        true: all equations of their reasoning are true.
        false: one at least is not.
    """

    true: dict[str, None] = field(default_factory=dict)
    false: dict[str, None] = field(default_factory=dict)


def sort_traces(traces: Iterator[Trace]) -> dict[str, Sorted]:
    """Sort right answers by their steps.

    Args:
        traces: of any questions.

    Returns:
        Question -> its traces; those without any equation are left out.
    """
    found: dict[str, Sorted] = {}
    for trace in traces:
        equations = find_equations(parse_tagged(trace.text).reasoning)
        if equations:
            sorted_ = found.setdefault(trace.question, Sorted())
            kind = sorted_.true if all(equation.is_true for equation in equations) else sorted_.false
            kind[trace.text] = None
    return found


def preference_rows(found: dict[str, Sorted]) -> list[dict[str, Any]]:
    """A row for each trace with a false step, beside a true one of its question; none where there is no true one."""
    return [
        {"prompt": question, "chosen": chosen, "rejected": rejected}
        for question, traces in found.items()
        # zip ends with the false ones, or at once where there is no true one to begin with
        for rejected, chosen in zip(traces.false, itertools.cycle(traces.true), strict=False)
    ]


def unpaired_rows(found: dict[str, Sorted]) -> list[dict[str, Any]]:
    """A row for each trace of the questions that have one with a false step."""
    return [
        {"prompt": question, "completion": text, "label": label}
        for question, traces in found.items()
        if traces.false
        for label, texts in ((True, traces.true), (False, traces.false))
        for text in texts
    ]


def _samples(path: Path) -> Iterator[Trace]:
    """The right answers among the samples of a GRPO run."""
    for number, line in enumerate(read_metrics(path), start=1):
        try:
            question, text, scores = line["question"], line["completion"], line["scores"]
            is_right = scores["correctness"] > 0
        except (KeyError, TypeError) as error:
            if error.args == ("correctness",):
                raise RunError(
                    f"{path}, line {number} does not say whether the answer is right",
                    "mine a run with --correct-score above 0",
                ) from None
            raise RunError(f"{path}, line {number} is no sample of a GRPO run", "give the folder of one") from error
        if is_right and parse_tagged(text).shape == "complete":
            yield Trace(question, text)


def _answers(path: Path) -> Iterator[Trace]:
    """The right answers of an evaluation; of a vote, those of its traces."""
    for item in read_items(path):
        for answer in item.traces or (item,):
            if answer.strict and answer.complete and answer.reasoning:
                yield Trace(item.question, write_tagged((answer.reasoning,), answer.answer))


#: Name of a file in a run folder -> the right answers in it.
_READERS = {SAMPLES: _samples, FILE: _answers}


def _traces(run: Path) -> Iterator[Trace]:
    """The right answers in a run folder, or in the folders of its tasks or betas."""
    paths = [path for name in _READERS for path in (run / name, *sorted(run.glob(f"*/{name}"))) if path.is_file()]
    if not paths:
        raise RunError(
            f"{run} holds neither {' nor '.join(_READERS)}", "give the folder of a GRPO run or of an evaluation"
        )
    return itertools.chain.from_iterable(_READERS[path.name](path) for path in paths)


def run_mine(config: Mine) -> Path:
    """Write the rows.

    Args:
        config: which.

    Returns:
        The file.

    Raises:
        ConfigError: if the file exists.
        RunError: if the folder holds no samples, they do not say which are right, or there is nothing to write.
        DataError: if the file cannot be written.
    """
    if config.out.exists():
        raise ConfigError(f"--out {config.out} exists", "give another name")
    found = sort_traces(_traces(config.run))
    false, true = (sum(len(getattr(traces, kind)) for traces in found.values()) for kind in ("false", "true"))
    if not false:
        raise RunError(
            f"{config.run} holds no right answer with a false step, and {true} whose steps are all true",
            "mine a longer run, or one with a smaller --sample-every",
        )
    rows = preference_rows(found) if config.style == "preference" else unpaired_rows(found)
    alone = sum(len(traces.false) for traces in found.values() if not traces.true)
    if not rows:
        raise RunError(
            f"{config.run} holds {false} right answers with false steps, but none with true ones to the same question",
            "--style unpaired_preference writes them",
        )
    write_lines(rows, config.out)
    print(
        f"wrote {len(rows)} rows to {config.out}: {false} right answers with false steps, {alone} of them to questions "
        "that no right answer with true steps was found for"
    )
    return config.out
