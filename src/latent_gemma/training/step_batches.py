"""How examples reach the steps: in which order, and how those of a batch are laid out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from latent_gemma.training.batches import IGNORE, Row, aligned, pad_rows
from latent_gemma.training.losses import targets_of
from latent_gemma.training.packed import pack_rows, plan_packs


class Rows(Dataset):
    """Indices of the encoded examples; the trainer lays them out itself, when it knows the stage."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def collate_rows(items: Sequence[int]) -> dict[str, list[int]]:
    """Indices of a batch; no tensor, which would travel to the device and back."""
    return {"row": list(items)}


class GroupedOrder(Sampler[int]):
    """An epoch's order in which the examples of a step are of like length.

    Args:
        order: gives the order of the epoch that begins or goes on.
        count: number of examples.
    """

    def __init__(self, order: Callable[[], list[int]], count: int) -> None:
        self.order, self.count = order, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.order())


def grouped_by_length(lengths: Sequence[int], step_size: int, seed: int) -> list[int]:
    """Draw an order in which each step's examples are of like length.

    Args:
        lengths: of the examples, tokens.
        step_size: examples of an optimiser step, those of all its batches and processes.
        seed: of the draw.

    Returns:
        Indices. 50 steps' worth of examples at a time (a quarter of them, where there are fewer than 200) are drawn and
        sorted, so what meets in a step is still chance; then the steps are shuffled, so that lengths rise and fall
        with none of the schedules. The first step holds the longest example, for memory to run out there if it must,
        and a step that is not full comes last.
    """
    generator = torch.Generator().manual_seed(seed)
    order = get_length_grouped_indices(lengths, step_size, generator=generator)
    steps = [order[start : start + step_size] for start in range(0, len(order), step_size)]
    moved = torch.randperm(max(0, len(order) // step_size - 1), generator=generator) + 1
    kept = steps[1 + len(moved) :]
    return [index for step in (steps[0], *(steps[i] for i in moved.tolist()), *kept) for index in step]


def lay_out(rows: Sequence[Row], pad_id: int, packs: bool) -> dict[str, Tensor]:
    """The tensors of a batch.

    Args:
        rows: its rows.
        pad_id: id of the padding.
        packs: several rows may share one, where that takes fewer positions; see `plan_packs`.

    Returns:
        As `pad_rows`, or as `pack_rows`.
    """
    if packs:
        planned = plan_packs(rows)
        longest = max(len(row.ids) for row in rows)
        if len(planned) * longest < len(rows) * aligned(rows)[1]:
            return pack_rows(planned, pad_id)
    return pad_rows(rows, pad_id)


def with_places(
    batch: dict[str, Any], thought_id: int, anchor_weight: float, halt_weight: float = 0.0
) -> dict[str, Any]:
    """A batch with what the host would have to ask the device for: columns with thoughts, what the loss reads where,
    and the first column whose state is read, by the loss or as what is fed back."""
    columns = (batch["input_ids"] == thought_id).any(0).nonzero()[:, 0].tolist()
    targets = targets_of(batch, anchor_weight, halt_weight)
    read = targets.read()
    first = min([*(read % batch["input_ids"].shape[1]).tolist(), *(column - 1 for column in columns[:1])], default=0)
    return {**batch, "columns": tuple(columns), "read": read, "halted": targets.halted(), "first": first}


def with_passes(batch: dict[str, Any], passes: int, pad_id: int) -> dict[str, Any]:
    """A batch of `with_places` that makes as many passes as any process's batch of this step, wide enough for them."""
    width, read = batch["input_ids"].shape[1], batch["read"]
    missing = max(0, passes + 1 - width)
    fills = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE, "anchors": IGNORE, "halts": IGNORE}
    padded = {name: torch.nn.functional.pad(batch[name], (0, missing), value=fill) for name, fill in fills.items()}
    return {**batch, **padded, "passes": passes, "read": read + read // width * missing}
