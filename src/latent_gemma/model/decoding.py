"""The decoding loop of evaluation and voting: a whole batch at once, ended rows leave it, scores never all in memory.

Token for token what `generate` gives at temperature 0. It differs in cost: `generate` copies the scores of all rows,
masks them by a test over the vocabulary and keeps ended rows to the end.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from latent_gemma.model.cache import select_rows
from latent_gemma.model.sampling import choose

#: Bytes of float32 scores made at a time: on a CPU what its caches and its allocator reuse, elsewhere all of a batch.
SCORE_BYTES = {"cpu": 24 * 2**20}
SCORE_BYTES_ELSEWHERE = 2**31


@dataclass(frozen=True)
class Decoded:
    """What was generated.

    Args:
        tokens: ids of each row, up to and with the end token.
        logprobs: sum of their log-probabilities at temperature 1, [B] float32, nats.
    """

    tokens: list[list[int]]
    logprobs: Tensor


def _next_tokens(model: Any, hidden: Tensor, temperatures: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and log-probabilities [B] that follow final hidden states [B, D]."""
    size = SCORE_BYTES.get(hidden.device.type, SCORE_BYTES_ELSEWHERE) // (4 * model.config.vocab_size)
    chosen = []
    for rows, cold, draws in zip(*(part.split(max(1, size)) for part in (hidden, temperatures, uniform)), strict=True):
        scores = model.project(rows).float()
        scores[:, model.never_generated] = float("-inf")
        chosen.append(choose(scores, cold, draws))
    tokens, logprobs = zip(*chosen, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def positions_of(attention_mask: Tensor) -> Tensor:
    """Positions [B, T] counted from each row's first token; on padding 0."""
    return (attention_mask.cumsum(-1) - 1).clamp_(min=0)


@torch.no_grad()
def decode(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    temperatures: Tensor,
    end_id: int,
    max_new_tokens: int,
    cache: Any = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Generate an answer to every prompt of a batch.

    Args:
        model: a latent Gemma in evaluation mode.
        input_ids: prompts padded on the left, [B, T].
        attention_mask: [B, T], 0 on padding.
        temperatures: of each row, [B] float32; 0 is greedy.
        end_id: the token that ends an answer.
        max_new_tokens: bound on generated tokens.
        cache: the first columns of the prompts, already read; None reads all. It is used up.
        generator: of the draws, on the CPU; None takes the global one.

    Returns:
        What was generated.
    """
    batch, device = len(input_ids), input_ids.device
    cache = DynamicCache(config=model.config) if cache is None else cache
    padded = not bool(attention_mask.all())
    positions = positions_of(attention_mask)
    mask, rows = attention_mask, torch.arange(batch, device=device)
    alive = torch.ones(batch, dtype=torch.bool, device=device)
    generated = torch.full((batch, max_new_tokens), end_id, device=device)
    logprobs = torch.zeros(batch, device=device)
    start = cache.get_seq_length()
    ids, at = input_ids[:, start:], positions[:, start:]
    for step in range(max_new_tokens):
        hidden = model.model(
            input_ids=ids,
            attention_mask=mask if padded else None,
            position_ids=at,
            past_key_values=cache,
            use_cache=True,
            project=model.project,
        ).last_hidden_state[:, -1]
        # one draw for every row of the batch, so that none depends on which others have ended
        uniform = torch.rand(batch, generator=generator).to(device)
        tokens, chosen = _next_tokens(model, hidden, temperatures[rows], uniform[rows])
        generated[rows, step] = torch.where(alive, tokens, end_id)
        logprobs[rows] += torch.where(alive, chosen, 0.0)
        alive &= tokens != end_id
        left = int(alive.sum())
        if left == 0:
            break
        ids, at, mask = tokens[:, None], at[:, -1:] + 1, torch.nn.functional.pad(mask, (0, 1), value=1)
        if 2 * left <= len(rows):  # copying the cache costs about a step: only where half of the rows go
            kept = alive.nonzero()[:, 0]
            select_rows(cache, kept)
            rows, alive, ids, at, mask = rows[kept], alive[kept], ids[kept], at[kept], mask[kept]
    return Decoded([_until(row, end_id) for row in generated.tolist()], logprobs)


def _until(row: list[int], end_id: int) -> list[int]:
    """A row up to and with its end token."""
    return row[: row.index(end_id) + 1] if end_id in row else row
