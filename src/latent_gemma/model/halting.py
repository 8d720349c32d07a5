"""When thinking ends: the model's own head weighs the end of thinking against everything else."""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from latent_gemma.errors import ConfigError
from latent_gemma.model.config import LatentConfig


def stop_margin(logits: Tensor, eot_id: int) -> Tensor:
    """How much more a head prefers to stop thinking than to go on.

    Args:
        logits: of the next token, [..., V].
        eot_id: id of end-of-thought.

    Returns:
        Log-odds of `eot` against all other tokens together, [...], nats: above 0 where P(eot) > 0.5.
    """
    others = logits.index_fill(-1, torch.tensor([eot_id], device=logits.device), float("-inf"))
    return logits[..., eot_id] - others.logsumexp(-1)


def check_grows(latent: LatentConfig) -> None:
    """Refuse K "auto" where thoughts cannot be added to a cache one at a time.

    Args:
        latent: the model's latent configuration.

    Raises:
        ConfigError: for a recurrence in which a thought more changes those before it.
    """
    if latent.recurrence != "append":
        raise ConfigError(
            f'K "auto" in generate in recurrence {latent.recurrence!r}: a thought more changes those before it',
            "give a number, or ask with latent_gemma.answer",
        )


class ThinkOrStop(LogitsProcessor):
    """Let the rows of a `generate` call that still think choose between one more thought and `eot`, and only them.

    The thought scores what all tokens but `eot` score together; elsewhere it is never generated.

    Args:
        latent: the model's latent configuration.
        prompt_length: columns of the prompts; one that ends in `bot` or a thought thinks on.
    """

    def __init__(self, latent: LatentConfig, prompt_length: int) -> None:
        self.latent, self.prompt_length = latent, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] for the next id behind `input_ids` [B, T]."""
        latent, generated = self.latent, input_ids.shape[1] - self.prompt_length
        thinks = thinking_columns(input_ids, self.prompt_length, latent) > generated
        taken = (input_ids == latent.thought_id).flip(-1).cumprod(-1).sum(-1)
        ids = torch.tensor([latent.thought_id, latent.eot_id], device=scores.device)
        answers = scores.index_fill(-1, ids[:1], float("-inf"))
        others = scores.index_fill(-1, ids[1:], float("-inf")).logsumexp(-1)
        others = torch.where(taken < latent.most_thoughts, others, float("-inf"))
        # the end is forced where nothing else is left, whatever has been made of its score
        stop = torch.where(others.isneginf(), 0.0, scores[:, latent.eot_id])
        two = torch.stack([others, stop], -1).to(scores.dtype)
        chooses = torch.full_like(scores, float("-inf")).index_copy(-1, ids, two)
        return torch.where(thinks[:, None], chooses, answers)


class AnswerBound(StoppingCriteria):
    """End a row when its answer has so many tokens, however long it thought.

    Args:
        latent: the model's latent configuration.
        max_new_tokens: of the answer.
        prompt_length: columns of the prompts, which end in `bot` or whatever else is left to the model.
    """

    def __init__(self, latent: LatentConfig, max_new_tokens: int, prompt_length: int) -> None:
        self.latent, self.max_new_tokens, self.prompt_length = latent, max_new_tokens, prompt_length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Which rows of `input_ids` [B, T] are done, [B] bool."""
        generated = input_ids.shape[1] - self.prompt_length
        return generated - thinking_columns(input_ids, self.prompt_length, self.latent) >= self.max_new_tokens


def thinking_columns(input_ids: Tensor, prompt_length: int, latent: LatentConfig) -> Tensor:
    """How many columns behind the prompts hold a row's own thoughts and the `eot` behind them, [B].

    Args:
        input_ids: prompts and what was generated, [B, T].
        prompt_length: columns of the prompts.
        latent: the model's latent configuration.
    """
    last = input_ids[:, prompt_length - 1]
    begun = (last == latent.bot_id) | (last == latent.thought_id)
    thoughts = (input_ids[:, prompt_length:] == latent.thought_id).cumprod(-1).sum(-1)
    return torch.where(begun, thoughts + 1, 0)
