"""The decoding loop of evaluation and voting: a whole batch at once, ended rows leave it, scores never all in memory.

Token for token what `generate` gives at temperature 0. It differs in cost: `generate` copies the scores of all rows,
masks them by a test over the vocabulary and keeps ended rows to the end.

Where a model ends its thinking itself, its rows do so each for itself (t a thought, a an answer token):

    column        0    1    2    3    4    5    6
    row 0        bot   t    t   eot   a    a    a
    row 1        bot  eot   a    a   end
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.generation.streamers import BaseStreamer

from latent_gemma.generation.sample import choose
from latent_gemma.model.cache import RolloutNote, seen_columns
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.halting import stop_margin
from latent_gemma.model.thinking import ThoughtRecord

#: Bytes of float32 scores made at a time: on a CPU what its caches and its allocator reuse, elsewhere all of a batch.
SCORE_BYTES = {"cpu": 24 * 2**20}
SCORE_BYTES_ELSEWHERE = 2**31


@dataclass(frozen=True)
class Decoded:
    """What was generated.

    Args:
        tokens: ids of each row's answer, up to and with the end token.
        logprobs: sum of their log-probabilities at temperature 1, [B] float32, nats.
        num_thoughts: thoughts that each row took of its own accord.
        margins: how sure the model is of each row's answer, 0 to 1, [B]: the mean over its tokens, without its end, of
            the difference between the two highest probabilities; of the first token its own probability, for that
            one was given to the row. None unless it was asked for.
    """

    tokens: list[list[int]]
    logprobs: Tensor
    num_thoughts: list[int]
    margins: Tensor | None = None


def _parts(model: LatentReasoningGemmaForCausalLM, hidden: Tensor, *others: Tensor) -> Any:
    """Final hidden states [B, D] and what else there is of each row, as few rows at a time as scores are made of."""
    size = SCORE_BYTES.get(hidden.device.type, SCORE_BYTES_ELSEWHERE) // (4 * model.config.vocab_size)
    return zip(*(part.split(max(1, size)) for part in (hidden, *others)), strict=True)


def _next_tokens(
    model: LatentReasoningGemmaForCausalLM,
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    temperatures: Tensor,
    uniform: Tensor,
) -> tuple[Tensor, Tensor]:
    """Tokens and log-probabilities [B] that follow final hidden states [B, D]."""
    chosen = []
    for rows, cold, draws in _parts(model, hidden, temperatures, uniform):
        scores = project(rows).float()
        scores[:, model.never_generated] = float("-inf")
        chosen.append(choose(scores, cold, draws))
    tokens, logprobs = zip(*chosen, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def _branches(
    model: LatentReasoningGemmaForCausalLM, project: Callable[[Tensor], Tensor], hidden: Tensor, ranks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What may follow final hidden states [B, D]: tokens by their ranks [B], from 0, log-probabilities and margins."""
    found = []
    for rows, wanted in _parts(model, hidden, ranks):
        scores = project(rows).float()
        best = scores.softmax(-1).topk(2, dim=-1).values
        scores[:, model.never_generated] = float("-inf")
        tokens = scores.topk(int(wanted.max()) + 1, dim=-1).indices.gather(1, wanted[:, None])
        found.append((tokens[:, 0], scores.log_softmax(-1).gather(1, tokens)[:, 0], best[:, 0] - best[:, 1]))
    tokens, logprobs, margins = (torch.cat(part) for part in zip(*found, strict=True))
    return tokens, logprobs, margins


def _stops(
    model: LatentReasoningGemmaForCausalLM,
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    temperatures: Tensor,
    uniform: Tensor,
) -> Tensor:
    """Whether thinking ends behind final hidden states [B, D], [B] bool: by preference, or drawn where not greedy."""
    eot_id = model.config.latent.eot_id
    margin = torch.cat([stop_margin(project(rows).float(), eot_id) for (rows,) in _parts(model, hidden)])
    drawn = uniform < (margin / torch.where(temperatures > 0.0, temperatures, 1.0)).sigmoid()
    return torch.where(temperatures > 0.0, drawn, margin > 0.0)


def positions_of(attention_mask: Tensor) -> Tensor:
    """Positions [B, T] counted from each row's first token; on padding 0."""
    return (attention_mask.cumsum(-1) - 1).clamp_(min=0)


class _Advance:
    """The decoder's calls after the prompt, one token of each row at a time.

    Args:
        model: the latent Gemma.
        cache: with the prompt in it; a stock cache.
        padding: of the prompt, [B, T], or None where there is none.
        total: columns there may be in all.
    """

    def __init__(self, model: LatentReasoningGemmaForCausalLM, cache: Any, padding: Tensor | None, total: int) -> None:
        self.decoder, self.project, self.cache = model.model, model.project, cache
        decoder = self.decoder
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
        """Final hidden states [B, 1, D] of tokens [B, 1], none of them a thought."""
        if self.step is not None:
            return self.step(self.decoder.embed_tokens(tokens), position_ids, self._padding(), None)
        return self._decode(tokens, position_ids)

    def think(self, tokens: Tensor, position_ids: Tensor, record: ThoughtRecord | None) -> Tensor:
        """The same where some tokens are thoughts, which take what is fed back; the decoder has its own ways."""
        # one column, in which some row thinks: there is nothing to ask the device for
        settings = replace(self.decoder.thinking, columns=(0,), record=record)
        with self.decoder.with_thinking(settings):
            return self._decode(tokens, position_ids)

    def _padding(self) -> Tensor | None:
        return None if self.padding is None else self.padding[:, : int(self.cache.get_seq_length()) + 1]

    def _decode(self, tokens: Tensor, position_ids: Tensor) -> Tensor:
        hidden: Tensor = self.decoder(
            input_ids=tokens,
            attention_mask=self._padding(),
            position_ids=position_ids,
            cache=self.cache,
            use_cache=True,
            project=self.project,
        ).last_hidden_state
        return hidden


def _spread(record: ThoughtRecord, step: ThoughtRecord, rows: Tensor, batch: int) -> None:
    """Add a latent step of some rows of a batch to the record of all."""
    for name in ("source", "inputs", "hidden", "mask", "tokens"):
        for part in getattr(step, name):
            getattr(record, name).append(part.new_zeros((batch, *part.shape[1:])).index_copy_(0, rows, part))


@torch.no_grad()
def decode(
    model: LatentReasoningGemmaForCausalLM,
    input_ids: Tensor,
    attention_mask: Tensor,
    temperatures: Tensor,
    end_ids: Sequence[int],
    max_new_tokens: int,
    cache: Any = None,
    generator: torch.Generator | None = None,
    most_thoughts: int | None = None,
    ranks: Tensor | None = None,
    streamer: BaseStreamer | None = None,
) -> Decoded:
    """Generate an answer to every prompt of a batch.

    Args:
        model: a latent Gemma in evaluation mode.
        input_ids: prompts padded on the left, [B, T].
        attention_mask: [B, T], 0 on padding.
        temperatures: of each row, [B] float32; 0 is greedy.
        end_ids: the tokens that end an answer.
        max_new_tokens: bound on the tokens of an answer; 0 ends with the thoughts.
        cache: the first columns of the prompts, already read; None reads all. It is used up.
        generator: of the draws, on the CPU; None takes the global one.
        most_thoughts: the prompts end in `bot`, and each row thinks until its head prefers `eot` (at a temperature: by
            a draw), at most so many thoughts; then comes its answer. None thinks what is in the prompts.
        ranks: of the token that each row's answer begins with, [B], 0 for the most probable one; margins are then
            measured. None chooses it like all others.
        streamer: is handed each token of the answer, [1], when it is chosen; of a batch of one.

    Returns:
        What was generated.
    """
    batch, device, decoder, latent = len(input_ids), input_ids.device, model.model, model.config.latent
    room = max_new_tokens + (0 if most_thoughts is None else most_thoughts + 1)
    total = input_ids.shape[1] + room
    steps, record = decoder.thinking.steps, decoder.thinking.record
    project = model.project if steps is None else steps.head(model)
    cache = decoder.thinking.empty_cache(model.config, total) if cache is None else cache
    padding = None if bool(attention_mask.all()) else attention_mask
    at, rows = positions_of(attention_mask), torch.arange(batch, device=device)
    alive = torch.ones(batch, dtype=torch.bool, device=device)
    ends = torch.tensor(end_ids, device=device)
    # behind the last column, what is no token of an answer
    generated = torch.full((batch, max_new_tokens + 1), end_ids[0], device=device)
    logprobs, margins, spans = torch.zeros(3, batch, device=device)
    thinks = torch.full_like(alive, most_thoughts is not None)
    thinking = 0 if most_thoughts is None else batch  # how many do
    lead = torch.zeros(batch, dtype=torch.long, device=device)  # steps before the first token of each row's answer
    start = cache.get_seq_length()
    hidden = decoder(
        input_ids=input_ids[:, start:],
        attention_mask=padding,
        position_ids=at[:, start:],
        cache=cache,
        use_cache=True,
        project=model.project,
    ).last_hidden_state
    at, advance = at[:, -1:], _Advance(model, cache, padding, total)
    for step in range(room):
        # one draw for every row of the batch, so that none depends on which others have ended
        uniform = torch.rand(batch, generator=generator).to(device)
        answers, last = alive & ~thinks, hidden[:, -1]
        if thinking:
            tokens, chosen = torch.full_like(rows, latent.thought_id), torch.zeros_like(logprobs[rows])
            those = thinks.nonzero()[:, 0]
            stops = _stops(model, project, last[those], temperatures[rows[those]], uniform[rows[those]])
            tokens[those[stops | (step == most_thoughts)]] = latent.eot_id
            those = (~thinks).nonzero()[:, 0]
            if len(those):
                found, said = _next_tokens(model, project, last[those], temperatures[rows[those]], uniform[rows[those]])
                tokens[those], chosen[those] = found, said.to(chosen.dtype)
        else:
            tokens, chosen = _next_tokens(model, project, last, temperatures[rows], uniform[rows])
        if ranks is not None:
            first = answers & (lead[rows] == step)
            branch, said, margin = _branches(model, project, last, torch.where(first, ranks[rows], 0))
            tokens, chosen = torch.where(first, branch, tokens), torch.where(first, said, chosen)
            # an end says nothing about an answer, unless it is all there is
            counts = answers & (first | ~torch.isin(tokens, ends))
            spans[rows] += counts
            margins[rows] += torch.where(counts, torch.where(first, said.exp(), margin), 0.0)
        if streamer is not None and bool(answers.all()):
            streamer.put(tokens.cpu())
        generated[rows, torch.where(answers, step - lead[rows], max_new_tokens)] = tokens
        logprobs[rows] += torch.where(answers, chosen, 0.0)
        stopped = thinks & (tokens == latent.eot_id)
        lead[rows] = torch.where(stopped, step + 1, lead[rows])
        thinks = thinks & ~stopped
        alive = alive & ~(answers & torch.isin(tokens, ends)) & (thinks | (step + 1 - lead[rows] < max_new_tokens))
        left, thinking = torch.stack([alive.sum(), thinks.sum()]).tolist()
        if left == 0:
            break
        at = at + 1
        # copying the cache costs about a step: only where half of the rows go, and never where shapes are to stay
        if 2 * left <= len(rows) and not (advance.step is not None and advance.step.fixed):
            kept = alive.nonzero()[:, 0]
            advance.select(kept)
            rows, alive, tokens, at, thinks = rows[kept], alive[kept], tokens[kept], at[kept], thinks[kept]
        if thinking:
            of_step = None if record is None else ThoughtRecord()
            hidden = advance.think(tokens[:, None], at, of_step)
            if record is not None and of_step is not None:
                _spread(record, of_step, rows, batch)
        else:
            hidden = advance(tokens[:, None], at)
    taken = [0] * batch if most_thoughts is None else (lead - 1).tolist()
    return Decoded(
        [_until(row, end_ids) for row in generated[:, :max_new_tokens].tolist()], logprobs, taken,
        None if ranks is None else margins / spans.clamp(min=1.0),
    )  # fmt: skip


def _until(row: list[int], end_ids: Sequence[int]) -> list[int]:
    """A row up to and with its end token."""
    return row[: next((place for place, token in enumerate(row) if token in end_ids), len(row)) + 1]
