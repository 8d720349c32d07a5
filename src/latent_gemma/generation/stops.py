"""Strings that end a generation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria


class StopStrings(StoppingCriteria):
    """End a row as soon as what it wrote holds one of some strings.

    transformers' own criterion reads everything that was generated; this one reads what it is told to, so that a line
    break may end an answer and not the reasoning before it.

    Args:
        read: generated ids of a row to the text that the strings apply to.
        stops: the strings, none of them empty.
        prompt_length: columns of the prompt.
    """

    def __init__(self, read: Callable[[list[int]], str], stops: Sequence[str], prompt_length: int) -> None:
        self.read, self.stops, self.prompt_length = read, stops, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Which rows of `input_ids` [B, T] are done, [B] bool."""
        texts = [self.read(row) for row in input_ids[:, self.prompt_length :].tolist()]
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)
