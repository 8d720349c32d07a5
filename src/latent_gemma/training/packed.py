"""Packing: several examples in one row of a text stage, where no thoughts have to stand in line."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_gemma.training.batches import IGNORE, Row


def plan_packs(rows: Sequence[Row]) -> list[list[Row]]:
    """Decide which rows share one: the longest first, each where it first fits.

    Args:
        rows: rows without thoughts.

    Returns:
        The rows of each pack, none longer in all than the longest row, because the cost of attention grows with the
        square of the width.
    """
    ordered = sorted(rows, key=lambda row: len(row.ids), reverse=True)
    packs: list[list[Row]] = []
    room: list[int] = []
    for row in ordered:
        length = len(row.ids)
        index = next((i for i, left in enumerate(room) if left >= length), len(packs))
        if index == len(packs):
            packs.append([])
            room.append(len(ordered[0].ids))
        packs[index].append(row)
        room[index] -= length
    return packs


def pack_rows(packs: Sequence[Sequence[Row]], pad_id: int) -> dict[str, Tensor]:
    """Lay the rows of each pack behind each other.

        ids        q  q  bot s  eot a  end  q  bot s  eot a  end pad
        positions  0  1  2   3  4   5  6    0  1   2  3   4  5   0
        labels     .  .  .   s  eot a  end  .  .   s  eot a  end .

    A position that does not follow the one before it begins a sequence, which sees itself alone (transformers'
    `find_packed_sequence_indices`). No example's first token is a target: nothing of its own stands before it.

    Args:
        packs: see `plan_packs`.
        pad_id: id of the padding.

    Returns:
        `input_ids`, `attention_mask`, `position_ids`, `labels`, `anchors`, `halts`, [M, T] int64 each, M packs as wide
        as the widest. The mask tells what is no padding; a model is given the positions in its place.
    """
    width = max(sum(len(row.ids) for row in pack) for pack in packs)

    def stack(parts: Sequence[Sequence[Sequence[int]]], fill: int) -> Tensor:
        lines = [[value for part in pack for value in part] for pack in parts]
        return torch.tensor([line + [fill] * (width - len(line)) for line in lines])

    return {
        "input_ids": stack([[row.ids for row in pack] for pack in packs], pad_id),
        "attention_mask": stack([[[1] * len(row.ids) for row in pack] for pack in packs], 0),
        "position_ids": stack([[range(len(row.ids)) for row in pack] for pack in packs], 0),
        "labels": stack([[[IGNORE, *row.labels[1:]] for row in pack] for pack in packs], IGNORE),
        "anchors": stack([[row.anchors for row in pack] for pack in packs], IGNORE),
        "halts": stack([[[IGNORE, *row.halts[1:]] for row in pack] for pack in packs], IGNORE),
    }
