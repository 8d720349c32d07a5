"""The two ways thoughts follow each other: one new position each, or the whole prompt through again."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latent_gemma.errors import ModelError
from latent_gemma.model.calls import Bias, Calls

if TYPE_CHECKING:
    from latent_gemma.model.rollout import Rollout

#: Final hidden states [B, T, D], and those of all layers where they were asked for.
Hidden = tuple[Tensor, tuple[Tensor | None, ...] | None]


def append(rollout: "Rollout", embeds: Tensor) -> Hidden:
    """One new position per latent step, for embeddings [B, T, D]."""
    thought, columns, calls, length = rollout.thought, rollout.columns, rollout.calls, embeds.shape[1]
    bias = rollout.bias()
    adapted = rollout.latent.adapter != "none"
    truncated = 0 if rollout.latent.backprop_steps is None else max(0, len(columns) - rollout.latent.backprop_steps)
    counts = thought.cumsum(-1) - 1
    ends = [*columns[1:], length]
    prompt, *pieces = embeds.split([columns[0], *(b - a for a, b in zip(columns, ends, strict=True))], dim=1)
    last: Tensor | None = None
    if columns[0] > 0:
        last = calls.call(prompt, 0, calls.cache, None, bias)[:, -1]
    elif rollout.note is not None and rollout.note.length == rollout.start:
        last = rollout.note.last_hidden
    if last is None:
        raise ModelError(
            "a thought stands first, and the cache does not hold the hidden state before it",
            "extend a cache that this model returned",
        )
    for step, (a, b, piece) in enumerate(zip(columns, ends, pieces, strict=True)):
        rows = thought[:, a]
        backpropagates = torch.enable_grad() if torch.is_grad_enabled() and step >= truncated else torch.no_grad()
        source = last
        with backpropagates:
            fed, tokens = rollout.feed_back(source)
            if rollout.settings.forced is not None:
                index = counts[:, a].clamp(min=0, max=rollout.settings.forced.shape[1] - 1)
                fed = rollout.settings.forced[torch.arange(len(index), device=index.device), index].to(fed.dtype)
            rollout.watch(step, fed)
            first = torch.where(rows[:, None], fed, piece[:, 0])
            embeds = torch.cat([first[:, None], piece[:, 1:]], dim=1)
            thinks = thought[:, a:b, None] if adapted else None
            hidden = calls.call(embeds, a, calls.next_cache(), thinks, bias)
        last = hidden[:, -1]
        if rollout.record is not None:
            rollout.record.source.append(source)
            rollout.record.inputs.append(fed)
            rollout.record.hidden.append(hidden[:, 0])
            rollout.record.mask.append(rows)
            if tokens is not None:
                rollout.record.tokens.append(tokens)
    return calls.join(calls.outputs)


def _pass(calls: Calls, inputs: Tensor, thinks: Tensor | None, bias: Bias | None) -> Tensor:
    """A call whose keys nobody reads; under checkpointing all it keeps is its input, so that K passes are cheap."""

    def call(inputs: Tensor) -> Tensor:
        hidden = calls.call(inputs, 0, None, thinks, bias)
        del calls.outputs[-1]  # only the last pass is an output
        return hidden

    replayed: Tensor = checkpoint(call, inputs, use_reentrant=False) if calls.replays else call(inputs)
    return replayed


def sequence(rollout: "Rollout", embeds: Tensor) -> Hidden:
    """All hidden states of the prompt go through the decoder again in each latent step; embeddings [B, T, D]."""
    thought, calls = rollout.thought, rollout.calls
    if rollout.start:
        raise ModelError(
            "recurrence 'sequence' sends the whole prompt through again and cannot extend a cache",
            "pass the prompt in one call",
        )
    before = thought.cumsum(-1) == 0
    steps = thought.sum(-1)
    firsts = torch.where(steps > 0, before.sum(-1), 0)
    lasts = thought.shape[1] - 1 - thought.flip(-1).int().argmax(-1)
    passes, width, scattered = torch.stack(
        [steps.max(), firsts.max(), ((steps > 0) & (lasts - firsts + 1 != steps)).any().to(steps.dtype)]
    ).tolist()
    passes, width = max(passes, rollout.settings.passes), max(width, 1)
    if scattered:
        raise ModelError(
            "recurrence 'sequence' takes one block of thoughts per row",
            "put the thoughts side by side, or use 'append'",
        )
    region = (before & (steps > 0)[:, None])[:, :width]
    bias = rollout.bias()
    truncated = 0 if rollout.latent.backprop_steps is None else max(0, passes - rollout.latent.backprop_steps)
    inputs = embeds[:, :width]
    thinks = region[:, :, None] if rollout.latent.adapter != "none" else None
    hidden = _pass(calls, inputs, None, bias)
    ends = (firsts - 1).clamp(min=0)
    rows = torch.arange(len(ends), device=ends.device)
    for step in range(passes):
        backpropagates = torch.enable_grad() if torch.is_grad_enabled() and step >= truncated else torch.no_grad()
        last, source = step == passes - 1, hidden
        with backpropagates:
            fed, tokens = rollout.feed_back(hidden)
            if last and rollout.settings.forced is not None:
                fed = _align_end(rollout.settings.forced, fed, ends)
            rollout.watch(step, fed)
            # A row that has taken all its steps sees the same inputs again, so its states stay what they are.
            moves = step < steps if rollout.settings.forced is None or not last else steps > 0
            inputs = torch.where((region & moves[:, None])[:, :, None], fed, inputs)
            hidden = calls.call(inputs, 0, calls.cache, thinks, bias) if last else _pass(calls, inputs, thinks, bias)
        if rollout.record is not None:
            rollout.record.source.append(source[rows, ends])
            rollout.record.inputs.append(inputs[rows, ends])
            rollout.record.hidden.append(hidden[rows, ends])
            rollout.record.mask.append(step < steps)
            if tokens is not None:
                rollout.record.tokens.append(tokens[rows, ends])
    if rollout.record is not None:
        rollout.record.prefix = inputs
    calls.call(embeds[:, width:], width, calls.next_cache(), None, bias)
    return calls.join(calls.outputs[-2:])


def _align_end(source: Tensor, like: Tensor, ends: Tensor) -> Tensor:
    """Lay `source` [B, S, D] into the shape of `like` [B, T, D], both ending at column `ends` of their row."""
    shift = source.shape[1] - 1 - ends
    index = torch.arange(like.shape[1], device=like.device)[None] + shift[:, None]
    index = index.clamp(0, source.shape[1] - 1)
    return torch.gather(source.to(like.dtype), 1, index[:, :, None].expand(-1, -1, like.shape[2]))
