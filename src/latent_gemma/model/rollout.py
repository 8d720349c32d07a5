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
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from latent_gemma.errors import ModelError
from latent_gemma.model.cache import RolloutNote, SegmentCache
from latent_gemma.model.calls import Bias, Calls
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.feedback import latent_from_hidden, mix_inputs
from latent_gemma.model.recurrences import append, sequence
from latent_gemma.model.static import new_cache
from latent_gemma.model.stock import cache_field
from latent_gemma.model.thinking import Thinking

Project = Callable[[Tensor], Tensor]


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
        self.start = 0 if cache is None else int(cache.get_seq_length())
        self.note = RolloutNote.on(cache)
        replays = decoder.training and torch.is_grad_enabled() and decoder.gradient_checkpointing
        if replays and cache is not None:
            raise ModelError(
                "gradient checkpointing through thoughts cannot extend a given cache", "leave the cache out"
            )
        self.returns_cache = cache is not None or (
            not replays and (decoder.config.use_cache if use_cache is None else use_cache)
        )
        if cache is None:
            cache = self._empty_cache(thought.shape[1])
        given = self.settings.columns
        self.columns: list[int] = self._columns(attention_mask, position_ids) if given is None else list(given)
        idle = range(self.columns[-1] + 1 if self.columns else 1, thought.shape[1])
        self.columns += idle[: max(0, self.settings.passes - len(self.columns))]
        self.calls = Calls(decoder, self.start, attention_mask, position_ids, cache, len(self.columns), replays, kwargs)

    def _empty_cache(self, length: int) -> Cache:
        config = self.decoder.config
        if not torch.is_grad_enabled():
            return new_cache(config, length)
        return DynamicCache(config=config) if self.returns_cache else SegmentCache.empty(config)

    def _columns(self, padding: Tensor | None, position_ids: Tensor | None) -> list[int]:
        """Columns that hold thoughts; one transfer to the host for them and for what is wrong with them."""
        thought, start = self.thought, self.start
        columns = thought.any(0)
        misplaced, again = torch.zeros_like(columns), torch.zeros_like(columns)
        if padding is not None:
            seen = padding.bool()
            before = seen[:, start - 1 : start - 1 + thought.shape[1]] if start else nn.functional.pad(seen, (1, -1))
            misplaced = (thought & ~before).any(0)
        elif start == 0:
            misplaced[0] = columns[0]
        if padding is None and position_ids is not None:
            # several examples in a row, which the stock decoder tells by their positions
            again[1:] = (position_ids.diff(dim=-1) != 1).any(0)
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

    def watch(self, step: int, fed: Tensor) -> None:
        """Note the norm of the gradient that reaches a latent step."""
        record = self.record
        if record is not None and fed.requires_grad:
            fed.register_hook(lambda grad: record.grad_norms.__setitem__(step, grad.detach().float().norm()))

    def run(self, embeds: Tensor) -> BaseModelOutputWithPast:
        """Roll out from what layer 0 would see without thoughts, [B, T, D]; see the module's docstring."""
        recurrence, calls = append if self.latent.recurrence == "append" else sequence, self.calls
        try:
            with calls.layers_replay():
                hidden, all_hidden = recurrence(self, embeds)
        finally:
            calls.close()
        cache: Any = calls.cache
        if self.returns_cache:
            bias = self.bias()
            RolloutNote.write(cache, hidden[:, -1], None if bias is None else bias.keys)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            hidden_states=all_hidden,  # type: ignore[arg-type]
            **cache_field(cache if self.returns_cache else None),
        )

    def bias(self) -> Bias | None:
        """Keys that positions after the thoughts do not see, or None where they see everything."""
        thought, latent = self.thought, self.latent
        past = None if self.note is None else self.note.key_bias
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
            # the cache may have grown since by calls that leave no note
            past = nn.functional.pad(past, (0, self.start - past.shape[1]))
            dim = torch.cat([past, dim], dim=1)
        return Bias(dim, queries)
