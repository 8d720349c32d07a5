"""Seconds an answer takes, so that methods can be held against each other: warmed up, repeated, in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from latent_gemma.evaluation.results import EvalRow

#: Turns of every method: as many always, and as many at most where they cost little beside what was measured.
LEAST, MOST = 3, 7
#: Up to this share of the time that the measuring took, more turns are taken.
SHARE = 0.25
#: One question in so many is asked.
FEW = 16


@dataclass(frozen=True)
class Timing:
    """Seconds an answer, batched.

    Args:
        median: of the turns.
        low: of the fastest turn.
        high: of the slowest.
    """

    median: float
    low: float
    high: float


def sample_size(questions: int, batch_size: int) -> int:
    """How many questions are asked at once to time them."""
    return min(batch_size, max(1, questions // FEW))


def time_in_turns(methods: Mapping[str, Callable[[], Callable[[], float]]], took_s: float) -> dict[str, Timing]:
    """Time every method on the same questions, one after the other and again from the first.

    What slows the machine down for a while so meets all of them, and shows as a spread.

    Args:
        methods: label -> what loads the method; that gives what asks it once and tells the seconds an answer. A single
            method is loaded once.
        took_s: seconds that measuring them took, of which this may cost a share.

    Returns:
        Label -> its time; the first asking after each loading is not counted.
    """
    found: dict[str, list[float]] = {label: [] for label in methods}
    started, turns = time.monotonic(), 0
    ask: Callable[[], float] = lambda: 0.0  # noqa: E731
    while turns < LEAST or (turns < MOST and time.monotonic() - started < SHARE * took_s):
        for label, load in methods.items():
            if turns == 0 or len(methods) > 1:
                ask = load()
                ask()
            found[label].append(ask())
        turns += 1
    return {label: Timing(median(each), min(each), max(each)) for label, each in found.items()}


def with_times(rows: Sequence[EvalRow], times: Mapping[str, Timing]) -> list[EvalRow]:
    """Rows in which the first of each label, its main setting, has its time."""
    left, timed = dict(times), []
    for row in rows:
        if found := left.pop(row.label, None):
            row = replace(row, seconds_per_answer=found.median, seconds_range=(found.low, found.high))
        timed.append(row)
    return timed
