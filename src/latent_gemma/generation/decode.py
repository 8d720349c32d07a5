"""The decoding loop of evaluation and voting: a whole batch at once, ended rows leave it, scores never all in memory.

Token for token what `generate` gives at temperature 0. It differs in cost: `generate` copies the scores of all rows,
masks them by a test over the vocabulary and keeps ended rows to the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from latent_gemma.generation.sample import choose
from latent_gemma.model.cache import RolloutNote, seen_columns

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


def _next_tokens(
    model: Any, project: Callable[[Tensor], Tensor], hidden: Tensor, temperatures: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens and log-probabilities [B] that follow final hidden states [B, D]."""
    size = SCORE_BYTES.get(hidden.device.type, SCORE_BYTES_ELSEWHERE) // (4 * model.config.vocab_size)
    chosen = []
    for rows, cold, draws in zip(*(part.split(max(1, size)) for part in (hidden, temperatures, uniform)), strict=True):
        scores = project(rows).float()
        scores[:, model.never_generated] = float("-inf")
        chosen.append(choose(scores, cold, draws))
    tokens, logprobs = zip(*chosen, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def positions_of(attention_mask: Tensor) -> Tensor:
    """Positions [B, T] counted from each row's first token; on padding 0."""
    return (attention_mask.cumsum(-1) - 1).clamp_(min=0)


class _Advance:
    """The decoder's calls after the prompt, one token of each row at a time.

    Args:
        decoder: the latent decoder.
        cache: with the prompt in it; a stock cache.
        padding: of the prompt, [B, T], or None where there is none.
        total: columns there may be in all.
    """

    def __init__(self, decoder: Any, cache: Any, padding: Tensor | None, total: int) -> None:
        self.decoder, self.cache = decoder, cache
        room = total - int(cache.get_seq_length())
        steps = decoder.thinking.steps
        self.step = None if steps is None else steps.begin(decoder, cache, room)
        self.padding = None if padding is None else pad(padding, (0, room), value=1)
        note = RolloutNote.on(cache)
        held = None if note is None else note.columns(total)
        if self.step is not None:  # the decoder itself looks at the note
            self.padding = seen_columns(held, self.padding)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows."""
        self.cache.reorder_cache(rows)
        self.padding = None if self.padding is None else self.padding[rows]

    def __call__(self, tokens: Tensor, position_ids: Tensor) -> Tensor:
        """Final hidden states [B, 1, D] of tokens [B, 1]."""
        padding = None if self.padding is None else self.padding[:, : int(self.cache.get_seq_length()) + 1]
        if self.step is not None:
            return self.step(self.decoder.embed_tokens(tokens), position_ids, padding, None)
        hidden: Tensor = self.decoder(
            input_ids=tokens,
            attention_mask=padding,
            position_ids=position_ids,
            cache=self.cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


@torch.no_grad()
def decode(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    temperatures: Tensor,
    end_ids: Sequence[int],
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
        end_ids: the tokens that end an answer.
        max_new_tokens: bound on generated tokens.
        cache: the first columns of the prompts, already read; None reads all. It is used up.
        generator: of the draws, on the CPU; None takes the global one.

    Returns:
        What was generated.
    """
    batch, device, decoder = len(input_ids), input_ids.device, model.model
    total = input_ids.shape[1] + max_new_tokens
    steps = decoder.thinking.steps
    project = model.project if steps is None else steps.head(model)
    cache = decoder.thinking.empty_cache(model.config, total) if cache is None else cache
    padding = None if bool(attention_mask.all()) else attention_mask
    at, rows = positions_of(attention_mask), torch.arange(batch, device=device)
    alive = torch.ones(batch, dtype=torch.bool, device=device)
    ends = torch.tensor(end_ids, device=device)
    generated = torch.full((batch, max_new_tokens), end_ids[0], device=device)
    logprobs = torch.zeros(batch, device=device)
    start = cache.get_seq_length()
    hidden = decoder(
        input_ids=input_ids[:, start:],
        attention_mask=padding,
        position_ids=at[:, start:],
        cache=cache,
        use_cache=True,
        project=model.project,
    ).last_hidden_state
    at, advance = at[:, -1:], _Advance(decoder, cache, padding, total)
    for step in range(max_new_tokens):
        # one draw for every row of the batch, so that none depends on which others have ended
        uniform = torch.rand(batch, generator=generator).to(device)
        tokens, chosen = _next_tokens(model, project, hidden[:, -1], temperatures[rows], uniform[rows])
        generated[rows, step] = torch.where(alive, tokens, end_ids[0])
        logprobs[rows] += torch.where(alive, chosen, 0.0)
        alive &= ~torch.isin(tokens, ends)
        left = int(alive.sum())
        if left == 0 or step + 1 == max_new_tokens:
            break
        at = at + 1
        # copying the cache costs about a step: only where half of the rows go, and never where shapes are to stay
        if 2 * left <= len(rows) and not (advance.step is not None and advance.step.fixed):
            kept = alive.nonzero()[:, 0]
            advance.select(kept)
            rows, alive, tokens, at = rows[kept], alive[kept], tokens[kept], at[kept]
        hidden = advance(tokens[:, None], at)
    return Decoded([_until(row, end_ids) for row in generated.tolist()], logprobs)


def _until(row: list[int], end_ids: Sequence[int]) -> list[int]:
    """A row up to and with its end token."""
    return row[: next((place for place, token in enumerate(row) if token in end_ids), len(row)) + 1]
