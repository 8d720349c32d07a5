"""Answers of a model to a batch of questions, by words or by thoughts, with what they cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_gemma.errors import DataError
from latent_gemma.generation.decode import decode
from latent_gemma.model.prompt import Frame, Mode, Written, pad_left
from latent_gemma.model.thinking import ThoughtRecord


@dataclass(frozen=True)
class Batch:
    """Answers to a batch of questions.

    Args:
        answers: one each.
        seconds: wall-clock time of the whole batch.
        thoughts: what was fed back, one tensor a question: [K, D], or [T, D] in recurrence "sequence".
    """

    answers: list[Written]
    seconds: float
    thoughts: list[Tensor]


@torch.no_grad()
def answer_batch(
    model: Any,
    frame: Frame,
    questions: Sequence[str],
    mode: Mode = "latent",
    num_thoughts: int = 0,
    p: float | None = None,
    forced: Sequence[Tensor] | None = None,
    max_new_tokens: int = 256,
) -> Batch:
    """Answer questions greedily in one batch.

    Args:
        model: a latent Gemma in evaluation mode.
        frame: its frame.
        questions: the questions.
        mode: "latent" thinks `num_thoughts` steps and answers; "words" writes its steps first; "none" answers at once.
        num_thoughts: K; 0 answers at once.
        p: share of the token embedding; None as configured.
        forced: thoughts to use instead of the model's own, as `Batch.thoughts` gives them.
        max_new_tokens: bound on generated tokens.

    Returns:
        The answers, the time they took and the thoughts.

    Raises:
        DataError: if a prompt is longer than the model allows.
    """
    rows = [frame.prompt(question, mode, num_thoughts) for question in questions]
    ids, mask = pad_left(rows, frame.pad_id)
    ids, mask = ids.to(model.device), mask.to(model.device)
    limit = model.config.max_position_embeddings
    if ids.shape[1] >= limit:
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        raise DataError(
            f"question {longest + 1} of this batch has {len(rows[longest])} tokens, and the model takes {limit}",
            "shorten it, or think fewer steps",
        )
    max_new_tokens = min(max_new_tokens, limit - ids.shape[1])
    record = ThoughtRecord()
    settings: dict[str, Any] = {"record": record, "p": p}
    if forced is not None:
        settings["forced"] = _stack_at_end(forced).to(model.device)
    started = time.perf_counter()
    with model.thinking(**settings):
        decoded = decode(model, ids, mask, torch.zeros(len(rows), device=ids.device), frame.end_ids, max_new_tokens)
    seconds = time.perf_counter() - started
    answers = [frame.read(row, mode) for row in decoded.tokens]
    thoughts = _own_thoughts(record, mask, num_thoughts, frame.latent.recurrence)
    return Batch(answers, seconds, thoughts)


def _own_thoughts(record: ThoughtRecord, mask: Tensor, num_thoughts: int, recurrence: str) -> list[Tensor]:
    if not record.inputs:
        return []
    if recurrence != "sequence":
        return list(record.stacked_inputs().float().cpu())
    # the prompt's own columns, without the padding before it and without `thought x K, eot` behind it
    lengths = (mask.sum(-1) - num_thoughts - 1).tolist()
    assert record.prefix is not None
    return [row[len(row) - length :].float().cpu() for row, length in zip(record.prefix, lengths, strict=True)]


def _stack_at_end(thoughts: Sequence[Tensor]) -> Tensor:
    width = max(len(thought) for thought in thoughts)
    return torch.stack([torch.nn.functional.pad(thought, (0, 0, width - len(thought), 0)) for thought in thoughts])
