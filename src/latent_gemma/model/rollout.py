"""The three phases: encode, K latent steps, decode, as calls of the stock decoder.

One forward of a batch whose thoughts start in column 3 ("append", K = 2; t a thought, a an answer token):

    column       0    1    2    3    4    5    6    7
    row 0       pad   q   bot   t    t   eot   a    a
    row 1        q    q   bot   t    t   eot   a    a
    call        |--- encode ---| 1  |--- 2 and decode ---|

Every call but the first starts at a thought column; its first position takes, in rows that hold a thought there, the
hidden state that the previous call ended with. Each position is computed once.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from latent_gemma.errors import ModelError
from latent_gemma.model.adapters import current_thought_mask, thought_phase
from latent_gemma.model.cache import CacheState, SegmentCache
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.feedback import latent_from_hidden, mix_inputs
from latent_gemma.model.masks import biased_masks, one_position_mask
from latent_gemma.model.static import StaticStep, new_cache, stepper
from latent_gemma.model.step import Step
from latent_gemma.model.thinking import Thinking
from latent_gemma.model.unrolled import Unrolled

Project = Callable[[Tensor], Tensor]


def _replay_in_phase(function: Callable[..., Any], *args: Any) -> Any:
    """Checkpoint a layer call so that backward recomputes it in the phase of its own forward, not the current one."""
    mask = current_thought_mask()

    def run(*inner: Any) -> Any:
        with thought_phase(mask):
            return function(*inner)

    return checkpoint(run, *args, use_reentrant=False)


@dataclass(frozen=True)
class _Bias:
    """Bias per key [B, T_keys] and the positions of this forward it applies to [B, T]."""

    keys: Tensor
    queries: Tensor


class Rollout:
    """One forward over a batch that holds thoughts.

    Args:
        decoder: the latent decoder.
        thought: which positions are thoughts, [B, T] bool.
        attention_mask: padding, [B, T_past + T], or None.
        position_ids: [B, T] or None.
        past_key_values: a cache to extend, or None.
        project: hidden states to logits, or None for the tied head.
        use_cache: return a cache.
        kwargs: what else the stock decoder is to be given.

    Raises:
        ModelError: for a thought with nothing before it, or what a rollout cannot give (attention maps, ...).
    """

    def __init__(
        self,
        decoder: Any,
        thought: Tensor,
        attention_mask: Tensor | dict[str, Tensor] | None,
        position_ids: Tensor | None,
        past_key_values: Cache | None,
        project: Project | None,
        use_cache: bool | None,
        kwargs: dict[str, Any],
    ) -> None:
        if attention_mask is not None and (isinstance(attention_mask, dict) or attention_mask.ndim != 2):
            raise ModelError(
                "a prompt with thoughts needs the padding mask [batch, length]", "pass a 2-D attention_mask"
            )
        kwargs.pop("return_dict", None)
        if kwargs.pop("output_attentions", False):
            raise ModelError(
                "attention maps of a prompt with thoughts come from several calls and are not joined",
                "drop output_attentions",
            )
        self.decoder, self.thought, self.padding = decoder, thought, attention_mask
        self.position_ids, self.project = position_ids, project or decoder.tied_projection
        # PEFT hands on all it could be told
        self.kwargs = {name: value for name, value in kwargs.items() if value is not None}
        self.latent: LatentConfig = decoder.config.latent
        if self.latent.embed_rms is None:
            decoder.calibrate()
            self.latent = decoder.config.latent
        self.embed_rms = float(self.latent.embed_rms or 0.0)
        self.settings: Thinking = decoder.thinking
        self.p = self.latent.p if self.settings.p is None else self.settings.p
        self.record = self.settings.record
        self.start = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        self.state: CacheState | None = getattr(past_key_values, "latent_state", None)
        self.replays = decoder.training and torch.is_grad_enabled() and decoder.gradient_checkpointing
        if self.replays and past_key_values is not None:
            raise ModelError(
                "gradient checkpointing through thoughts cannot extend a given cache", "leave past_key_values out"
            )
        self.returns_cache = past_key_values is not None or (
            not self.replays and (decoder.config.use_cache if use_cache is None else use_cache)
        )
        if past_key_values is not None:
            self.cache: Any = past_key_values
        elif not torch.is_grad_enabled():
            self.cache = new_cache(decoder.config, thought.shape[1])
        elif self.returns_cache:
            self.cache = DynamicCache(config=decoder.config)
        else:
            self.cache = SegmentCache.empty(decoder.config)
        self._step: Step | StaticStep | None = None
        self._unrolls: bool | None = None
        # Only now may the host look at the data: one transfer for the columns and for what is wrong with them.
        columns = thought.any(0)
        misplaced = torch.zeros_like(columns)
        if attention_mask is not None:
            seen = attention_mask.bool()
            before = (
                seen[:, self.start - 1 : self.start - 1 + thought.shape[1]]
                if self.start
                else nn.functional.pad(seen, (1, -1))
            )
            misplaced = (thought & ~before).any(0)
        elif self.start == 0:
            misplaced[0] = columns[0]
        self.columns, bad = columns.nonzero().flatten().tolist(), bool(misplaced.any())
        idle = range(self.columns[-1] + 1 if self.columns else 1, thought.shape[1])
        self.columns += idle[: max(0, self.settings.passes - len(self.columns))]
        if bad:
            raise ModelError(
                "a thought stands where nothing comes before it", "begin the prompt with at least one token"
            )

    # -- pieces both recurrences use ---------------------------------------------------------------------------

    def feed_back(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Next input for final hidden states [..., D], and the greedy tokens [...] (None while p = 0)."""
        decoder, latent = self.decoder, self.latent
        tokens = None
        fed = torch.zeros((), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))
        if self.p < 1.0:
            fed = latent_from_hidden(hidden, decoder.bridge, self.embed_rms)
            fed = self.settings.perturb(fed, self.embed_rms)
        if self.p > 0.0:
            with torch.no_grad():
                tokens = self.project(hidden).argmax(-1)
                embedding = decoder.embed_tokens(tokens)
            fed = mix_inputs(embedding, fed, self.p, latent.mix)
        return fed.to(hidden.dtype), tokens

    def call(self, embeds: Tensor, a: int, cache: Cache | None, thinks: Tensor | None, bias: _Bias | None) -> Tensor:
        """One decoder call over columns [a, a + T) with `embeds` [B, T, D]; returns final hidden states."""
        b = a + embeds.shape[1]
        if b == a + 1 and (step := self._stepper(cache)) is not None:
            return self._one_position(step, embeds, a, cache, thinks, bias)
        if isinstance(cache, SegmentCache):
            cache.settle()
        if bias is not None:
            mask: Any = biased_masks(
                self.decoder.config,
                self._padding_up_to(b),
                cache,
                self.start + a,
                bias.keys[:, : self.start + b],
                bias.queries[:, a:b],
                embeds.dtype,
            )
        else:
            mask = self._padding_up_to(b)
        positions = self.position_ids
        if positions is None:
            positions = torch.arange(self.start + a, self.start + b, device=embeds.device)[None]
        else:
            positions = positions[:, a:b]
        with thought_phase(thinks):
            output = self.decoder.decoder_call(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=False,
                **self.kwargs,
            )
        self.outputs.append(output)
        hidden: Any = output.last_hidden_state
        return hidden

    def _stepper(self, cache: Cache | None) -> Any:
        """What takes positions that go through alone, where the call has to give no more than hidden states."""
        if self.kwargs:
            return None
        if isinstance(cache, SegmentCache):
            if self._unrolls is None:
                self._unrolls = Unrolled.fits(self.decoder)
            begun = cache.unrolled is not None or any(cache.past)
            if not (self._unrolls and begun):
                return None
            return cache.unroll(lambda past: Unrolled(self.decoder, past, len(self.columns), self.replays))
        if torch.is_grad_enabled() or type(cache) is not DynamicCache:
            return None
        if self._step is None:
            self._step = stepper(self.decoder, thinks=True)
        return self._step

    def _one_position(
        self, step: Any, embeds: Tensor, a: int, cache: Any, thinks: Tensor | None, bias: _Bias | None
    ) -> Tensor:
        """A call over column a alone, as `call`."""
        end = self.start + a + 1
        mask = one_position_mask(
            self._padding_up_to(a + 1),
            None if bias is None else bias.keys[:, :end],
            None if bias is None else bias.queries[:, a],
            embeds.dtype,
        )
        if self.position_ids is None:
            positions = torch.full((1, 1), end - 1, device=embeds.device)
        else:
            positions = self.position_ids[:, a : a + 1]
        if isinstance(step, Unrolled):
            hidden = step(embeds, positions, mask, thinks)
        else:
            with thought_phase(thinks):
                hidden = step(embeds, positions, cache, mask)
        self.outputs.append(BaseModelOutputWithPast(last_hidden_state=hidden))
        return hidden

    def next_cache(self) -> Cache:
        """The cache for the call that follows one made with `self.cache`."""
        if isinstance(self.cache, SegmentCache):
            self.cache = self.cache.following()
        return self.cache

    def _padding_up_to(self, b: int) -> Tensor | None:
        return None if self.padding is None else self.padding[:, : self.start + b]

    def watch(self, step: int, fed: Tensor) -> None:
        """Note the norm of the gradient that reaches a latent step."""
        record = self.record
        if record is not None and fed.requires_grad:
            fed.register_hook(lambda grad: record.grad_norms.__setitem__(step, grad.detach().float().norm()))

    @contextmanager
    def _layers_replay(self):
        """Have each layer checkpoint through our function, which keeps the cache and the phase right."""
        layers: list[Any] = list(self.decoder.layers)
        kept = [(layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache) for layer in layers]
        for layer in layers:
            layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = _replay_in_phase, True
        try:
            yield
        finally:
            for layer, (function, flag) in zip(layers, kept, strict=True):
                layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = function, flag

    def run(self, input_ids: Tensor) -> BaseModelOutputWithPast:
        """Roll out; see the module's docstring."""
        self.outputs: list[BaseModelOutputWithPast] = []
        around: AbstractContextManager = self._layers_replay() if self.replays else nullcontext()
        try:
            with around:
                if self.latent.recurrence == "append":
                    hidden, all_hidden = self._append(input_ids)
                else:
                    hidden, all_hidden = self._sequence(input_ids)
        finally:  # checkpointing keeps this object to run calls again: what keeps the graph would never be freed
            self.outputs = []
            if isinstance(self.cache, SegmentCache):
                self.cache.close()
                self.cache = None
        if self.returns_cache:
            bias = self._bias()
            self.cache.latent_state = CacheState(
                self.start + input_ids.shape[1], hidden[:, -1], None if bias is None else bias.keys
            )
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=self.cache if self.returns_cache else None,
            hidden_states=all_hidden,
        )

    def _join(self, calls: list[Any]) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        hidden = torch.cat([call.last_hidden_state for call in calls], dim=1)
        if calls[0].hidden_states is None:
            return hidden, None
        return hidden, tuple(
            torch.cat(layer, dim=1) for layer in zip(*(call.hidden_states for call in calls), strict=True)
        )

    def _bias(self) -> _Bias | None:
        """Keys that positions after the thoughts do not see, or None where they see everything."""
        thought, latent = self.thought, self.latent
        past = None if self.state is None else self.state.key_bias
        if latent.question_visibility == 1.0 and latent.recurrence == "append" and past is None:
            return None
        started = thought.cumsum(-1) > 0
        has_thoughts = started[:, -1:]
        queries = (thought.flip(-1).cumsum(-1).flip(-1) == 0) & started
        lowest = torch.finfo(torch.float32).min
        visibility = latent.question_visibility
        dim = torch.zeros(thought.shape, device=thought.device)
        dim = dim.masked_fill(~started & has_thoughts, math.log(visibility) if visibility > 0.0 else lowest)
        if latent.recurrence == "sequence":
            dim = dim.masked_fill(thought, lowest)
        if self.start:
            if past is None:
                fill = math.log(visibility) if visibility > 0.0 else lowest
                past = torch.where(has_thoughts, fill, 0.0).expand(-1, self.start)
            dim = torch.cat([past, dim], dim=1)
        return _Bias(dim, queries)

    # -- append: one new position per latent step --------------------------------------------------------------

    def _append(self, input_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        decoder, thought, columns, length = self.decoder, self.thought, self.columns, input_ids.shape[1]
        bias = self._bias()
        adapted = self.latent.adapter != "none"
        truncated = 0 if self.latent.backprop_steps is None else max(0, len(columns) - self.latent.backprop_steps)
        counts = thought.cumsum(-1) - 1
        ends = [*columns[1:], length]
        # one look-up: the gradient of each is as large as the whole embedding
        prompt, *pieces = decoder.embed_tokens(input_ids).split(
            [columns[0], *(b - a for a, b in zip(columns, ends, strict=True))], dim=1
        )
        last: Tensor | None = None
        if columns[0] > 0:
            last = self.call(prompt, 0, self.cache, None, bias)[:, -1]
        elif self.state is not None and self.state.length == self.start:
            last = self.state.last_hidden
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
                fed, tokens = self.feed_back(source)
                if self.settings.forced is not None:
                    index = counts[:, a].clamp(min=0, max=self.settings.forced.shape[1] - 1)
                    fed = self.settings.forced[torch.arange(len(index), device=index.device), index].to(fed.dtype)
                self.watch(step, fed)
                first = torch.where(rows[:, None], fed, piece[:, 0])
                embeds = torch.cat([first[:, None], piece[:, 1:]], dim=1)
                thinks = None
                if adapted:
                    thinks = thought[:, a:b, None]
                hidden = self.call(embeds, a, self.next_cache(), thinks, bias)
            last = hidden[:, -1]
            if self.record is not None:
                self.record.source.append(source)
                self.record.inputs.append(fed)
                self.record.hidden.append(hidden[:, 0])
                self.record.mask.append(rows)
                if tokens is not None:
                    self.record.tokens.append(tokens)
        return self._join(self.outputs)

    # -- sequence: all hidden states of the prompt go through the decoder again --------------------------------

    def _pass(self, inputs: Tensor, thinks: Tensor | None, bias: _Bias | None) -> Tensor:
        """A call whose keys nobody reads; under checkpointing all it keeps is its input, so that K passes are cheap."""

        def call(inputs: Tensor) -> Tensor:
            hidden = self.call(inputs, 0, None, thinks, bias)
            del self.outputs[-1]  # only the last pass is an output
            return hidden

        replayed: Tensor = checkpoint(call, inputs, use_reentrant=False) if self.replays else call(inputs)
        return replayed

    def _sequence(self, input_ids: Tensor) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        decoder, thought, length = self.decoder, self.thought, input_ids.shape[1]
        if self.start:
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
        passes, width = max(passes, self.settings.passes), max(width, 1)
        if scattered:
            raise ModelError(
                "recurrence 'sequence' takes one block of thoughts per row",
                "put the thoughts side by side, or use 'append'",
            )
        region = (before & (steps > 0)[:, None])[:, :width]
        bias = self._bias()
        truncated = 0 if self.latent.backprop_steps is None else max(0, passes - self.latent.backprop_steps)
        inputs = decoder.embed_tokens(input_ids[:, :width])
        thinks = region[:, :, None] if self.latent.adapter != "none" else None
        hidden = self._pass(inputs, None, bias)
        ends = (firsts - 1).clamp(min=0)
        rows = torch.arange(len(ends), device=ends.device)
        for step in range(passes):
            backpropagates = torch.enable_grad() if torch.is_grad_enabled() and step >= truncated else torch.no_grad()
            last, source = step == passes - 1, hidden
            with backpropagates:
                fed, tokens = self.feed_back(hidden)
                if last and self.settings.forced is not None:
                    fed = _align_end(self.settings.forced, fed, ends)
                self.watch(step, fed)
                # A row that has taken all its steps sees the same inputs again, so its states stay what they are.
                moves = step < steps if self.settings.forced is None or not last else steps > 0
                inputs = torch.where((region & moves[:, None])[:, :, None], fed, inputs)
                hidden = self.call(inputs, 0, self.cache, thinks, bias) if last else self._pass(inputs, thinks, bias)
            if self.record is not None:
                self.record.source.append(source[rows, ends])
                self.record.inputs.append(inputs[rows, ends])
                self.record.hidden.append(hidden[rows, ends])
                self.record.mask.append(step < steps)
                if tokens is not None:
                    self.record.tokens.append(tokens[rows, ends])
        if self.record is not None:
            self.record.prefix = inputs
        self.call(decoder.embed_tokens(input_ids[:, width:length]), width, self.next_cache(), None, bias)
        return self._join(self.outputs[-2:])


def _align_end(source: Tensor, like: Tensor, ends: Tensor) -> Tensor:
    """Lay `source` [B, S, D] into the shape of `like` [B, T, D], both ending at column `ends` of their row."""
    shift = source.shape[1] - 1 - ends
    index = torch.arange(like.shape[1], device=like.device)[None] + shift[:, None]
    index = index.clamp(0, source.shape[1] - 1)
    return torch.gather(source.to(like.dtype), 1, index[:, :, None].expand(-1, -1, like.shape[2]))
