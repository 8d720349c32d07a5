"""What the benchmarks share: times of two things in turn, processes of their own, random batches, the machine."""

import ctypes
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from latent_gemma.recipes.stage import machine
from latent_gemma.training.batches import IGNORE
from latent_gemma.versions import versions


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
    """What `work` returns, so that no peak hides behind an earlier one: on a CPU in a process of its own."""
    if torch.cuda.is_available():  # its peak can be set back
        gc.collect()
        torch.cuda.empty_cache()
        return work(*args)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, args)


def returns_memory_at_once(yes: bool) -> None:
    """Whether freed tensors on a CPU go back to the system at once (exact peaks) or stay with malloc (as usual)."""
    if sys.platform == "linux" and not torch.cuda.is_available():
        m_trim_threshold, m_mmap_threshold = -1, -3
        for setting in (m_trim_threshold, m_mmap_threshold):
            ctypes.CDLL(None).mallopt(setting, 1 << 16 if yes else 1 << 25)


def batch_of(model: Any, batch: int, prompt: int, k: int, answer: int) -> dict[str, torch.Tensor]:
    """Random questions, K thoughts, random answers, on the model's device; the loss reads the answers."""
    latent = model.config.latent
    tail = torch.tensor([latent.bot_id, *[latent.thought_id] * k, latent.eot_id])
    ids = torch.randint(12, model.config.vocab_size, (batch, prompt + len(tail) + answer))
    ids[:, prompt : prompt + len(tail)] = tail
    labels = ids.clone()
    labels[:, :-answer] = IGNORE
    parts = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    parts["anchors"] = torch.full_like(ids, IGNORE)
    return {name: part.to(model.device) for name, part in parts.items()}


def settings(precision: str = "float32") -> str:
    """The machine, the versions and what is computed in, in a line."""
    found = versions()
    return f"{machine()}, torch {found['torch']}, transformers {found['transformers']}, {precision}"
