"""What is never generated."""

import torch
from torch import Tensor
from transformers import LogitsProcessor


class NeverThought(LogitsProcessor):
    """Keep the thought id from being generated, whatever other processors make of its score.

    Args:
        thought_id: the id.
    """

    def __init__(self, thought_id: int) -> None:
        self.thought_id = thought_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] with that of the thought at -inf."""
        return scores.index_fill(-1, torch.tensor([self.thought_id], device=scores.device), float("-inf"))
