"""CODI's self-distillation: one model writes its steps and thinks, and the second learns from the first."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, Encoded, Row, build_row
from latent_gemma.training.curriculum import Stage
from latent_gemma.training.losses import targets_of

#: What the teacher does: every step written, as in the text stage.
WRITTEN = Stage()


@dataclass(frozen=True)
class CodiLosses:
    """Losses of one batch: the student's and the teacher's in nats per token, the distance of their hidden states."""

    total: Tensor
    student: Tensor
    teacher: Tensor
    distill: Tensor


def paired_rows(teachers: Sequence[Encoded], students: Sequence[Row], frame: Frame) -> list[Row]:
    """The rows of a batch: of all examples the teacher's, then of all the student's, in one batch.

        row 0   q  q  bot  s1  s1  s2  s2  eot  a   end     the teacher writes
        row 1   q  q  bot  t   t   t   eot a    end pad     the student thinks

    One call of the model for both is what DDP asks for, and a row without thoughts may stand beside rows with them.

    Args:
        teachers: the examples.
        students: their rows that think.
        frame: the marker ids.

    Returns:
        Twice as many rows as examples.
    """
    return [*(build_row(item, WRITTEN, frame, random.Random()) for item in teachers), *students]


def answering_states(hidden_states: Sequence[Tensor], input_ids: Tensor, eot_id: int) -> Tensor:
    """What every layer says where the first token of the answer is predicted, at `eot`.

    Args:
        hidden_states: of the embeddings and the layers, [B, T, D] each; the embeddings' is left out, for it is the
            same in both passes.
        input_ids: [B, T], each row with one `eot`.
        eot_id: its id.

    Returns:
        [B, L, D], in float32 or better.
    """
    ends = input_ids.eq(eot_id).int().argmax(-1)
    rows = torch.arange(len(ends), device=ends.device)
    states = torch.stack([layer[rows, ends] for layer in hidden_states[1:]], dim=1)
    return states.to(torch.promote_types(states.dtype, torch.float32))


def moments(states: Tensor) -> Tensor:
    """Count, sum and sum of squares of each layer's values, [3, L] in float64, for states [B, L, D]."""
    values = states.detach().double()
    count = values.new_full((values.shape[1],), values.shape[0] * values.shape[2])
    return torch.stack([count, values.sum((0, 2)), values.pow(2).sum((0, 2))])


def deviations(totals: Tensor) -> Tensor:
    """Standard deviation of each layer's values over examples and components, [L], from moments [3, L]."""
    count, first, second = totals
    return ((second - first.pow(2) / count) / (count - 1)).sqrt()


def counted(batch: dict[str, Tensor]) -> list[int]:
    """The student's tokens, the teacher's and the examples of a batch, what `codi_loss` divides by."""
    told, half = batch["labels"][:, 1:] != IGNORE, len(batch["labels"]) // 2
    return [int(told[half:].sum()), int(told[:half].sum()), half]


@torch.no_grad()
def teacher_moments(model: Any, batches: Sequence[dict[str, Tensor]], eot_id: int) -> Tensor:
    """The moments of the teacher's states over several batches, [3, L]; one pass of its rows, without gradients."""
    found = []
    for batch in batches:
        ids, mask = (batch[name][: len(batch[name]) // 2] for name in ("input_ids", "attention_mask"))
        read = ids.new_empty(0)
        output = model(input_ids=ids, attention_mask=mask, use_cache=False, read=read, output_hidden_states=True)
        found.append(moments(answering_states(output.hidden_states, ids, eot_id)))
    return torch.stack(found).sum(0)


def codi_loss(
    model: Any, batch: dict[str, Tensor], eot_id: int, weight: float, counts: Sequence[Tensor] | None = None,
    teacher_deviations: Tensor | None = None,
) -> CodiLosses:  # fmt: skip
    """Run a batch of `paired_rows` and score it.

        student + teacher + weight * 1/L sum_l SmoothL1(student's h_l, detached teacher's h_l) / std(teacher's h_l)

    The first two are cross-entropies: of the answer behind thoughts, and of steps and answer. h_l is the output of
    layer l (of the last one behind the final norm) at `eot`, which predicts the first token of the answer.

    Args:
        model: the causal-LM model, or a wrapper of it.
        batch: `input_ids`, `attention_mask`, `labels`, [2B, T] each; with `read` (see `Targets`) the host does
            not wait for the device.
        eot_id: id of end-of-thought.
        weight: of the distance.
        counts: the student's tokens, the teacher's and the examples to divide by, 0-d, where the batch is a part of a
            larger one; None takes the batch's own.
        teacher_deviations: [L], of all of the larger one; None takes the batch's own.

    Returns:
        The losses. No gradient of the distance reaches the teacher's rows.

    Source: Shen et al. 2025 (CODI, arXiv 2502.21074), section 3, and its published code, which divides by the standard
    deviation over batch and components. It differs in the token distilled (`eot` here, the one before the answer
    there) and in leaving out the embeddings, whose distance is 0 and which only lower the mean over layers there.
    """
    ids, labels = batch["input_ids"], batch["labels"][:, 1:]
    read = batch["read"] if "read" in batch else targets_of(batch, 0.0).read()
    output = model(
        input_ids=ids, attention_mask=batch["attention_mask"], use_cache=False, read=read, output_hidden_states=True
    )
    logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
    targets = torch.nn.functional.pad(labels, (0, 1)).flatten()[read]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    half = len(ids) // 2
    thinks = read >= half * ids.shape[1]
    states = answering_states(output.hidden_states, ids, eot_id)
    teacher, student = states[:half].detach(), states[half:]
    student_count, teacher_count, examples = counts or (thinks.sum(), (~thinks).sum(), half)
    apart = torch.nn.functional.smooth_l1_loss(student, teacher, reduction="none").sum((0, 2))
    known = deviations(moments(teacher)) if teacher_deviations is None else teacher_deviations
    distill = (apart / known.to(apart.dtype)).mean() / (examples * states.shape[2])
    asked, written = (losses * thinks).sum() / student_count, (losses * ~thinks).sum() / teacher_count
    return CodiLosses(asked + written + weight * distill, asked.detach(), written.detach(), distill.detach())
