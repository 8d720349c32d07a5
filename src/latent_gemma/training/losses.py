"""The training loss: cross-entropy on answer and written steps and on the anchors of thoughts, and where to stop."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latent_gemma.model.halting import stop_margin
from latent_gemma.training.batches import IGNORE


@dataclass(frozen=True)
class Losses:
    """Losses of one batch, nats per token (`halt`: per decision); `anchor` and `halt` are 0 where they read nothing."""

    total: Tensor
    answer: Tensor
    anchor: Tensor
    halt: Tensor = field(default_factory=lambda: torch.zeros(()))


@dataclass(frozen=True)
class Targets:
    """What the loss reads of a batch: what each position is to say next, IGNORE where it reads nothing.

    Args:
        tokens: labels and anchors, [B, T - 1] int64.
        answers: which of these are labels, [B, T - 1] bool.
        halts: 1 where thinking is to end, 0 where it goes on, [B, T - 1] int64.
    """

    tokens: Tensor
    answers: Tensor
    halts: Tensor

    def counts(self) -> list[int]:
        """How many answers, anchors and halts there are."""
        told = self.tokens != IGNORE
        return [int(part.sum()) for part in (self.answers, told & ~self.answers, self.halts != IGNORE)]

    def read(self) -> Tensor:
        """Positions whose logits are read, [N] counted through the flattened batch [B * T]."""
        wanted = (self.tokens != IGNORE) | (self.halts != IGNORE)
        return torch.nn.functional.pad(wanted, (0, 1)).flatten().nonzero()[:, 0]

    def halted(self) -> Tensor:
        """Which of the positions in `read` are to stop or go on, [H]."""
        return (self.at(self.halts, self.read()) != IGNORE).nonzero()[:, 0]

    @staticmethod
    def at(part: Tensor, read: Tensor) -> Tensor:
        """Some of the targets, [B, T - 1], at positions of the flattened batch [B * T]."""
        return torch.nn.functional.pad(part, (0, 1)).flatten()[read]


def targets_of(batch: dict[str, Tensor], anchor_weight: float, halt_weight: float = 0.0) -> Targets:
    """What the loss reads of a batch; what has no weight is left out."""
    labels, anchors = batch["labels"][:, 1:], batch["anchors"][:, 1:]
    tokens = labels if anchor_weight == 0.0 else torch.where(labels == IGNORE, anchors, labels)
    halts = torch.full_like(labels, IGNORE) if halt_weight == 0.0 else batch["halts"][:, 1:]
    return Targets(tokens, labels != IGNORE, halts)


def latent_loss(
    model: Any,
    batch: dict[str, Tensor],
    anchor_weight: float,
    counts: tuple[Tensor, ...] | None = None,
    halt_weight: float = 0.0,
    eot_id: int | None = None,
) -> Losses:
    """Run a batch and score it.

    Args:
        model: the causal-LM model, or a wrapper of it.
        batch: `input_ids`, `attention_mask`, `labels`, `anchors`, [B, T] each; for a `halt_weight` also `halts`; of
            packed rows `position_ids` too. With `read` and `halted` (see `Targets`) the host does not wait for the
            device.
        anchor_weight: weight of the anchor loss.
        counts: answers and anchors, and with a `halt_weight` halts, to divide the sums by, 0-d each, where the batch is
            a part of a larger one; None takes the batch's own.
        halt_weight: weight of the halting loss, the binary cross-entropy of the probability that the model's own head
            gives to `eot` at `bot` and at each thought.
        eot_id: id of `eot`; None takes the model's.

    Returns:
        The losses. Logits are computed only at positions a loss reads: with 256k tokens they cost more than the rest.

    Source: the halting loss is what cross-entropy teaches of the end of written reasoning, `eot` against the rest,
    without saying which of the rest; PonderNet (arXiv 2107.05407) and others learn a head of its own for it.
    """
    wanted = targets_of(batch, anchor_weight, halt_weight)
    read = batch["read"] if "read" in batch else wanted.read()
    # The positions tell packed examples apart, and only where there is no mask.
    seen = {name: batch[name] for name in ("position_ids" if "position_ids" in batch else "attention_mask",)}
    logits = model(input_ids=batch["input_ids"], use_cache=False, read=read, **seen).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    tokens, is_answer = wanted.at(wanted.tokens, read), wanted.at(wanted.answers, read)
    is_anchor = ~is_answer & (tokens != IGNORE)
    losses = torch.nn.functional.cross_entropy(logits, tokens, reduction="none", ignore_index=IGNORE)
    divisors = counts or (is_answer.sum(), is_anchor.sum())
    answer = (losses * is_answer).sum() / divisors[0].clamp(min=1)
    anchor = (losses * is_anchor).sum() / divisors[1].clamp(min=1)
    total, halt = answer + anchor_weight * anchor, torch.zeros_like(answer)
    if halt_weight > 0.0:
        halted = batch["halted"] if "halted" in batch else wanted.halted()
        margins = stop_margin(logits[halted], model.config.latent.eot_id if eot_id is None else eot_id)
        stops = wanted.at(wanted.halts, read)[halted].to(margins.dtype)
        halt = torch.nn.functional.binary_cross_entropy_with_logits(margins, stops, reduction="sum")
        halt = halt / (counts[2].clamp(min=1) if counts else max(1, len(stops)))
        total = total + halt_weight * halt
    return Losses(total, answer.detach(), anchor.detach(), halt.detach())
