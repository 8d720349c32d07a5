"""What the benchmarks share: times of two things run in turn, processes of their own, and the machine they ran on."""

import ctypes
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

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


def alone(work: Callable[..., Any], *args: Any) -> Any:
    """What `work` returns in a process of its own, so that no peak hides behind an earlier one."""
    # a copy of this process saves the imports, but not where a GPU's driver may have started
    with multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork").Pool(1) as pool:
        return pool.apply(work, args)


def returns_memory_at_once(yes: bool) -> None:
    """Whether freed tensors on a CPU go back to the system at once (exact peaks) or stay with malloc (as usual)."""
    if sys.platform == "linux" and not torch.cuda.is_available():
        m_trim_threshold, m_mmap_threshold = -1, -3
        for setting in (m_trim_threshold, m_mmap_threshold):
            ctypes.CDLL(None).mallopt(setting, 1 << 16 if yes else 1 << 25)


def settings() -> str:
    """The machine and the versions, in a line."""
    found = versions()
    return f"{machine()}, torch {found['torch']}, transformers {found['transformers']}, float32"
