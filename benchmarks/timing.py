"""What the benchmarks share: times of two things run in turn, and the machine they ran on."""

import statistics
import time
from collections.abc import Callable

import torch

from latent_gemma.recipes.stage import machine, versions


def timed(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ratio(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, run in turn after a warm-up, and the median of the rounds' ratios."""
    first(), second()
    pairs = [(timed(first), timed(second)) for _ in range(rounds)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return a, b, statistics.median(x / y for x, y in pairs)


def settings() -> str:
    """The machine and the versions, in a line."""
    found = versions()
    return f"{machine()}, torch {found['torch']}, transformers {found['transformers']}, float32"
