"""The three phases: encode, K latent steps, decode, as calls of the stock decoder.

One forward of a batch whose thoughts start in column 3 ("append", K = 2; t a thought, a an answer token):

    column       0    1    2    3    4    5    6    7
    row 0       pad   q   bot   t    t   eot   a    a
    row 1        q    q   bot   t    t   eot   a    a
    call        |--- encode ---| 1  |--- 2 and decode ---|

Every call but the first starts at a thought column; its first position takes, in rows that hold a thought there, the
hidden state that the previous call ended with. Each position is computed once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from latent_gemma.errors import ModelError
from latent_gemma.model.adapters import current_thought_mask, thought_phase
from latent_gemma.model.cache import RolloutNote, SegmentCache, forked, seen_columns
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.feedback import latent_from_hidden, mix_inputs, token_part
from latent_gemma.model.stock import cache_field
from latent_gemma.model.thinking import Step, Steps, Thinking

Project = Callable[[Tensor], Tensor]
#: Final hidden states [B, T, D], and those of all layers where they were asked for.
Hidden = tuple[Tensor, tuple[Tensor | None, ...] | None]
#: Keywords that only the loss reads.
_OF_THE_LOSS = ("num_items_in_batch", "ignore_index", "shift_labels")


def _replay_in_phase(function: Callable[..., Any], *args: Any) -> Any:
    """Checkpoint a layer call so that backward recomputes it in the phase of its own forward, not the current one."""
    mask = current_thought_mask()

    def run(*inner: Any) -> Any:
        with thought_phase(mask):
            return function(*inner)

    return checkpoint(run, *args, use_reentrant=False)


class Rollout:
    """One forward over a batch that holds thoughts.

    Args:
        decoder: the latent decoder.
        thought: which positions are thoughts, [B, T] bool.
        attention_mask: padding, [B, T_past + T], or None.
        position_ids: [B, T] or None.
        cache: a cache to extend, or None.
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
        cache: Cache | None,
        project: Project | None,
        use_cache: bool | None,
        kwargs: dict[str, Any],
    ) -> None:
        if attention_mask is not None and (isinstance(attention_mask, dict) or attention_mask.ndim != 2):
            raise ModelError(
                "a prompt with thoughts needs the padding mask [batch, length]", "pass a 2-D attention_mask"
            )
        if kwargs.pop("output_attentions", decoder.config.output_attentions):
            raise ModelError(
                "attention maps of a prompt with thoughts come from several calls and are not joined",
                "drop output_attentions",
            )
        self.decoder, self.thought, self.project = decoder, thought, project or decoder.tied_projection
        self.latent: LatentConfig = decoder.config.latent
        if self.latent.embed_rms is None:
            decoder.calibrate()
            self.latent = decoder.config.latent
        self.embed_rms = float(self.latent.embed_rms or 0.0)
        self.settings: Thinking = decoder.thinking
        self.p = self.latent.p if self.settings.p is None else self.settings.p
        self.record = self.settings.record
        self.position_ids, self.padding = position_ids, attention_mask
        self.start = 0 if cache is None else int(cache.get_seq_length())
        self.note = RolloutNote.on(cache)
        self.replays = decoder.training and torch.is_grad_enabled() and decoder.gradient_checkpointing
        if self.replays and cache is not None:
            raise ModelError(
                "gradient checkpointing through thoughts cannot extend a given cache", "leave the cache out"
            )
        self.returns_cache = cache is not None or (
            not self.replays and (decoder.config.use_cache if use_cache is None else use_cache)
        )
        self.steps: Steps | None = self.settings.steps
        self.step: Step | None = None
        self.cache: Any = self._empty_cache(thought.shape[1]) if cache is None else cache
        if torch.is_grad_enabled() and not isinstance(self.cache, SegmentCache):
            self.steps = None  # a stock cache is written in place
        given = self.settings.columns
        self.columns: list[int] = self._columns() if given is None else list(given)
        idle = range(self.columns[-1] + 1 if self.columns else 1, thought.shape[1])
        self.columns += idle[: max(0, self.settings.passes - len(self.columns))]
        self.held = None if self.note is None else self.note.columns(self.start + thought.shape[1])
        self.padding = seen_columns(self.held, self.padding)
        # PEFT hands on all it could be told, and Trainer what its loss divides by
        self.kwargs = {
            name: value
            for name, value in kwargs.items()
            if value is not None and value is not False and name not in _OF_THE_LOSS
        }
        self.outputs: list[BaseModelOutputWithPast] = []

    def _empty_cache(self, length: int) -> Cache:
        config = self.decoder.config
        if not torch.is_grad_enabled():
            return self.settings.empty_cache(config, length)
        return DynamicCache(config=config) if self.returns_cache else SegmentCache.empty(config)

    def _columns(self) -> list[int]:
        """Columns that hold thoughts; one transfer to the host for them and for what is wrong with them."""
        thought, start = self.thought, self.start
        columns = thought.any(0)
        misplaced, again = torch.zeros_like(columns), torch.zeros_like(columns)
        if self.padding is not None:
            seen = self.padding.bool()
            before = seen[:, start - 1 : start - 1 + thought.shape[1]] if start else nn.functional.pad(seen, (1, -1))
            misplaced = (thought & ~before).any(0)
        elif start == 0:
            misplaced[0] = columns[0]
        if self.padding is None and self.position_ids is not None:
            # several examples in a row, which the stock decoder tells by their positions
            again[1:] = (self.position_ids.diff(dim=-1) != 1).any(0)
        holds, bad, packed = torch.stack([columns, misplaced, again]).tolist()
        if any(packed):
            raise ModelError(
                "several examples are packed into a row with thoughts, which would see each other's",
                "leave packing out (packing=False, a collator that pads), or pass the attention_mask of one example",
            )
        if any(bad):
            raise ModelError(
                "a thought stands where nothing comes before it", "begin the prompt with at least one token"
            )
        return [column for column, held in enumerate(holds) if held]

    def run(self, embeds: Tensor) -> BaseModelOutputWithPast:
        """Roll out from what layer 0 would see without thoughts, [B, T, D]; see the module's docstring."""
        try:
            with self._layers_replay():
                ways = {"append": self._append, "sequence": self._sequence, "parallel": self._parallel}
                paused = self.latent.fed == "pause"
                hidden, layers = (self._paused if paused else ways[self.latent.recurrence])(embeds)
            cache = self.cache
        finally:
            self._close()
        if self.returns_cache:
            RolloutNote.write(cache, hidden, self.held)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            hidden_states=layers,  # type: ignore[arg-type]
            **cache_field(cache if self.returns_cache else None),
        )

    def _append(self, embeds: Tensor) -> Hidden:
        """One new position per latent step, for embeddings [B, T, D]."""
        thought, columns, length = self.thought, self.columns, embeds.shape[1]
        adapted = self.latent.adapter != "none"
        counts = thought.cumsum(-1) - 1
        ends = [*columns[1:], length]
        prompt, *pieces = embeds.split([columns[0], *(b - a for a, b in zip(columns, ends, strict=True))], dim=1)
        last = self._call(prompt, 0, self.cache, None)[:, -1] if columns[0] > 0 else self._last_hidden()
        for step, (a, b, piece) in enumerate(zip(columns, ends, pieces, strict=True)):
            rows, source = thought[:, a], last
            with self._backpropagates(step, len(columns)):
                fed, tokens = self.feed_back(source)
                if self.settings.forced is not None:
                    given = self._forced(counts[:, a : a + 1], fed)[:, 0]
                    fed = torch.where(given.isnan(), fed, given)
                self.watch({step: ...}, fed)
                first = torch.where(rows[:, None], fed, piece[:, 0])
                inputs = torch.cat([first[:, None], piece[:, 1:]], dim=1)
                thinks = thought[:, a:b, None] if adapted else None
                alone = self._alone() if b == a + 1 else None
                if alone is not None:
                    hidden = self._take(alone, inputs, a, thinks)
                else:
                    hidden = self._call(inputs, a, self._next_cache(), thinks)
            last = hidden[:, -1]
            self._note_thought(source, fed, hidden[:, 0], rows, tokens)
        return self._join(self.outputs)

    def _paused(self, embeds: Tensor) -> Hidden:
        """All positions [B, T, D] in one call: a constant in place of a thought waits for no other position."""
        thought = self.thought
        fed, _ = self.feed_back(embeds)
        if self.settings.forced is not None:
            fed = self._forced(thought.cumsum(-1) - 1, fed)
        inputs = torch.where(thought[:, :, None], fed, embeds)
        hidden = self._call(inputs, 0, self.cache, thought[:, :, None] if self.latent.adapter != "none" else None)
        if self.record is not None:
            for a in self.columns:
                source = hidden[:, a - 1] if a > 0 else self._last_hidden()
                self._note_thought(source, inputs[:, a], hidden[:, a], thought[:, a], None)
        return self._join(self.outputs)

    def _last_hidden(self) -> Tensor:
        """The hidden state behind the cache, [B, D]."""
        note = self.note if self.note is not None and self.note.length == self.start else None
        last = None if note is None or note.hidden is None else note.hidden[:, -1]
        if last is None:
            raise ModelError(
                "a thought stands first, and the cache does not hold the hidden state before it",
                "extend a cache that this model returned",
            )
        return last

    def _forced(self, index: Tensor, fed: Tensor) -> Tensor:
        """The given inputs of thoughts `index` [B, T] of their rows, [B, T, D] as `fed`."""
        forced: Any = self.settings.forced
        rows = torch.arange(len(index), device=index.device)[:, None]
        given: Tensor = forced[rows, index.clamp(min=0, max=forced.shape[1] - 1)].to(fed.dtype)
        return given

    def _parallel(self, embeds: Tensor) -> Hidden:
        """All thoughts of a row at once, in T passes over them alone; embeddings [B, T, D].

        In pass t a thought takes the hidden state that the position before it had in pass t - 1; before the first, the
        embedding of the thought token stands there. A row's first thought takes the state that the prompt ends with,
        so after pass t its first t thoughts are those of "append".

        Source: Wu et al. 2025 (arXiv 2506.18582), section 3. It differs in the first pass: there it takes embeddings
        alone, reads the prompt as well, and is not counted.
        """
        a, b = self.columns[0], self.columns[-1] + 1
        thought, piece, rest = self.thought[:, a:b], embeds[:, a:b], embeds[:, b:]
        index = thought.cumsum(-1) - 1
        first = thought & (index == 0)
        last = self._call(embeds[:, :a], 0, self.cache, None)[:, -1] if a > 0 else self._last_hidden()
        source = last[:, None].expand_as(piece)
        past = self._next_cache()
        most, apart = torch.stack([index.max() + 1, first[:, 1:].any().to(index.dtype)]).tolist()
        passes = max(most, self.settings.passes)
        passes = min(passes, self.latent.parallel_passes or passes)
        if apart:  # some rows' thoughts begin behind others', with a state that is not read yet
            hidden = self._pass(piece, None, a, forked(past))
            source = torch.cat([source[:, :1], hidden[:, :-1]], dim=1)
        thinks = self.thought[:, a:, None] if self.latent.adapter != "none" else None
        # a summand of every pass's inputs, whose gradient is what reaches a thought in all of them
        probe = torch.zeros_like(piece, requires_grad=torch.is_grad_enabled() and self.record is not None)
        self.watch({step: (slice(None), column - a) for step, column in enumerate(self.columns)}, probe)
        for step in range(passes):
            with self._backpropagates(step, passes):
                fed, tokens = self.feed_back(source)
                if self.settings.forced is not None:
                    fed = self._forced(index, fed)
                moves = first if step == 0 and self.settings.forced is None else thought
                inputs = torch.where(moves[:, :, None], fed + probe, piece)
                if step < passes - 1:
                    hidden = self._pass(inputs, None if thinks is None else thinks[:, : b - a], a, forked(past))
                else:
                    hidden = self._call(torch.cat([inputs, rest], dim=1), a, past, thinks)
            source = torch.cat([source[:, :1], hidden[:, : b - a - 1]], dim=1)
        if tokens is not None:
            tokens = torch.where(moves, tokens, self.latent.thought_id)
        for j in (column - a for column in self.columns):
            self._note_thought(
                source[:, j], inputs[:, j], hidden[:, j], thought[:, j], None if tokens is None else tokens[:, j]
            )
        return self._join(self.outputs)

    def _sequence(self, embeds: Tensor) -> Hidden:
        """All hidden states of the prompt go through the decoder again in each latent step; embeddings [B, T, D]."""
        thought, settings = self.thought, self.settings
        if self.start:
            raise ModelError(
                "recurrence 'sequence' sends the whole prompt through again and cannot extend a cache",
                "pass the prompt in one call",
            )
        before = thought.cumsum(-1) == 0
        counts = thought.sum(-1)
        firsts = torch.where(counts > 0, before.sum(-1), 0)
        lasts = thought.shape[1] - 1 - thought.flip(-1).int().argmax(-1)
        passes, width, scattered = torch.stack(
            [counts.max(), firsts.max(), ((counts > 0) & (lasts - firsts + 1 != counts)).any().to(counts.dtype)]
        ).tolist()
        passes, width = max(passes, settings.passes), max(width, 1)
        if scattered:
            raise ModelError(
                "recurrence 'sequence' takes one block of thoughts per row",
                "put the thoughts side by side, or use 'append'",
            )
        region = (before & (counts > 0)[:, None])[:, :width]
        # the thoughts are the prompt's own positions: their columns hold nothing that others could see
        self.held = ~thought
        seen = seen_columns(self.held, self.padding)
        inputs = embeds[:, :width]
        thinks = region[:, :, None] if self.latent.adapter != "none" else None
        hidden = self._pass(inputs, None)
        ends = (firsts - 1).clamp(min=0)
        rows = torch.arange(len(ends), device=ends.device)
        for step in range(passes):
            last, source = step == passes - 1, hidden
            with self._backpropagates(step, passes):
                fed, tokens = self.feed_back(source)
                if last and settings.forced is not None:
                    fed = _align_end(settings.forced, fed, ends)
                self.watch({step: ...}, fed)
                # A row that has taken all its steps sees the same inputs again, so its states stay what they are.
                moves = step < counts if settings.forced is None or not last else counts > 0
                inputs = torch.where((region & moves[:, None])[:, :, None], fed, inputs)
                hidden = self._call(inputs, 0, self.cache, thinks, seen) if last else self._pass(inputs, thinks)
            self._note_thought(
                source[rows, ends], inputs[rows, ends], hidden[rows, ends], step < counts,
                None if tokens is None else tokens[rows, ends],
            )  # fmt: skip
        if self.record is not None:
            self.record.prefix = inputs
        self._call(embeds[:, width:], width, self._next_cache(), None, seen)
        hidden, layers = self._join(self.outputs[-2:])
        # behind a window such a column sees nothing at all, and would be whatever the batch makes of that
        return hidden.masked_fill(thought[:, :, None], 0.0), layers

    def feed_back(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Next input for final hidden states [..., D], and the best tokens [...], None for a pause or p = 0."""
        tokens, dtype = None, torch.promote_types(hidden.dtype, torch.float32)
        if self.decoder.pause is not None:
            fed = self.settings.perturb(self.decoder.pause.to(dtype).expand(hidden.shape), self.embed_rms)
            return fed.to(hidden.dtype), None
        fed = torch.zeros((), device=hidden.device, dtype=dtype)
        if self.p < 1.0:
            fed = latent_from_hidden(hidden, self.decoder.bridge, self.embed_rms)
            fed = self.settings.perturb(fed, self.embed_rms)
        if self.p > 0.0:
            with torch.no_grad():
                tokens, embedding = token_part(self.project(hidden), self.decoder.embed_tokens, self.latent)
            fed = mix_inputs(embedding, fed, self.p)
        return fed.to(hidden.dtype), tokens

    def watch(self, parts: dict[int, Any], fed: Tensor) -> None:
        """Note the norm of the gradient that reaches latent steps: step -> its part of what is fed back, an index."""
        if self.record is not None and fed.requires_grad:
            # The hook must not hold the record, which holds `fed`: a circle through autograd that is never collected.
            norms = self.record.grad_norms
            fed.register_hook(lambda grad: norms.update({s: grad[i].detach().float().norm() for s, i in parts.items()}))

    def _note_thought(self, source: Tensor, fed: Tensor, hidden: Tensor, rows: Tensor, tokens: Tensor | None) -> None:
        record = self.record
        if record is not None:
            record.source.append(source)
            record.inputs.append(fed)
            record.hidden.append(hidden)
            record.mask.append(rows)
            if tokens is not None:
                record.tokens.append(tokens)

    def _backpropagates(self, step: int, steps: int) -> Any:
        """Gradients on for the last `backprop_steps` of the latent steps, off for those before."""
        truncated = 0 if self.latent.backprop_steps is None else steps - self.latent.backprop_steps
        return torch.enable_grad() if torch.is_grad_enabled() and step >= truncated else torch.no_grad()

    def _call(
        self, embeds: Tensor, a: int, cache: Cache | None, thinks: Tensor | None, padding: Tensor | None = None
    ) -> Tensor:
        """One decoder call over columns [a, a + T) with `embeds` [B, T, D]; returns final hidden states."""
        b = a + embeds.shape[1]
        padding = self.padding if padding is None else padding
        with thought_phase(thinks):
            output = self.decoder.decoder_call(
                inputs_embeds=embeds,
                attention_mask=None if padding is None else padding[:, : self.start + b],
                position_ids=self._positions(a, b, embeds),
                use_cache=False,
                **cache_field(cache),
                **self.kwargs,
            )
        self.outputs.append(output)
        hidden: Any = output.last_hidden_state
        return hidden

    def _pass(self, inputs: Tensor, thinks: Tensor | None, a: int = 0, past: Cache | None = None) -> Tensor:
        """A call whose keys nobody reads; one without a past keeps nothing but its input under checkpointing."""

        def call(inputs: Tensor) -> Tensor:
            hidden = self._call(inputs, a, past, thinks)
            del self.outputs[-1]  # only the last pass is an output
            return hidden

        replays = self.replays and past is None
        replayed: Tensor = checkpoint(call, inputs, use_reentrant=False) if replays else call(inputs)
        return replayed

    def _alone(self) -> Step | None:
        """What takes the next column by itself, where its call has to give no more than hidden states."""
        if self.step is None and self.steps is not None and not self.kwargs:
            if isinstance(self.cache, SegmentCache):
                self.cache = self.cache.following()
            self.step = self.steps.begin(self.decoder, self.cache, len(self.columns))
            if self.step is None:
                self.steps = None
        return self.step

    def _take(self, step: Step, embeds: Tensor, a: int, thinks: Tensor | None) -> Tensor:
        """As `_call`, over column a alone."""
        padding = None if self.padding is None else self.padding[:, : self.start + a + 1]
        hidden = step(embeds, self._positions(a, a + 1, embeds), padding, thinks)
        self.outputs.append(BaseModelOutputWithPast(last_hidden_state=hidden))
        return hidden

    def _next_cache(self) -> Cache:
        """The cache for the call that comes next."""
        if isinstance(self.cache, SegmentCache):
            if self.step is not None and (keys := self.step.keys()) is not None:
                self.cache.take(keys)
            self.cache = self.cache.following()
        self.step = None
        cache: Cache = self.cache
        return cache

    def _positions(self, a: int, b: int, embeds: Tensor) -> Tensor:
        if self.position_ids is None:
            return torch.arange(self.start + a, self.start + b, device=embeds.device)[None]
        return self.position_ids[:, a:b]

    @contextmanager
    def _layers_replay(self) -> Iterator[None]:
        """Have each layer checkpoint through our function, which keeps the cache and the phase right."""
        if not self.replays:
            yield
            return
        layers: list[Any] = list(self.decoder.layers)
        kept = [(layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache) for layer in layers]
        for layer in layers:
            layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = _replay_in_phase, True
        try:
            yield
        finally:
            for layer, (function, flag) in zip(layers, kept, strict=True):
                layer._gradient_checkpointing_func, layer._can_checkpoint_with_cache = function, flag

    def _close(self) -> None:
        """Let go of what keeps the graph: checkpointing keeps this object to run calls again, which would keep both."""
        self.outputs, self.step = [], None
        if isinstance(self.cache, SegmentCache):
            self.cache.close()
            self.cache = None

    @staticmethod
    def _join(calls: list[Any]) -> Hidden:
        """Final hidden states of some calls, and those of all layers where they were asked for."""
        hidden = torch.cat([call.last_hidden_state for call in calls], dim=1)
        if calls[0].hidden_states is None:
            return hidden, None
        # a layer that was not asked for is None
        return hidden, tuple(
            None if layer[0] is None else torch.cat(layer, dim=1)
            for layer in zip(*(call.hidden_states for call in calls), strict=True)
        )


def _align_end(source: Tensor, like: Tensor, ends: Tensor) -> Tensor:
    """Lay `source` [B, S, D] into the shape of `like` [B, T, D], both ending at column `ends` of their row."""
    shift = source.shape[1] - 1 - ends
    index = torch.arange(like.shape[1], device=like.device)[None] + shift[:, None]
    index = index.clamp(0, source.shape[1] - 1)
    return torch.gather(source.to(like.dtype), 1, index[:, :, None].expand(-1, -1, like.shape[2]))
