"""The decoder's latent phase: a mixin over the stock Gemma decoders."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from latent_gemma.errors import ModelError
from latent_gemma.model.adapters import install_thought_adapters
from latent_gemma.model.attention import NAME as LATENT_EAGER
from latent_gemma.model.cache import RolloutNote, seen_columns
from latent_gemma.model.config import LatentConfig, update_latent
from latent_gemma.model.feedback import Bridge
from latent_gemma.model.rollout import Project, Rollout
from latent_gemma.model.stock import cache_field, cache_of, takes_either_name
from latent_gemma.model.thinking import Thinking

_AS_CONFIGURED = Thinking()


_NO_EXPORT = "a model that thinks cannot be exported: how often the decoder runs depends on the ids"


# a strict export traces what it is to raise, and shows the reason given here
@torch.compiler.disable(reason=_NO_EXPORT)
def _refuse() -> None:
    raise ModelError(_NO_EXPORT, "export the plain Gemma of the same weights")


def refuse_export() -> None:
    """Say in one line that `torch.export` is not to be had."""
    if torch.compiler.is_exporting():
        _refuse()


class LatentDecoder(nn.Module):
    """Mixin that gives a stock Gemma decoder its latent phase; a sequence without thoughts runs the stock forward."""

    # What the stock decoder beside this mixin brings.
    config: Any
    layers: nn.ModuleList
    embed_tokens: Any
    gradient_checkpointing: bool
    bridge: Bridge | None
    #: What stands in place of every thought of a model that is fed it, [D]; zero until `calibrate` starts it.
    pause: nn.Parameter | None

    def build_latent(self) -> None:
        """Add the bridge, pause and thought adapters that the configuration asks for."""
        latent: LatentConfig = self.config.latent
        self._settings: dict[int, Thinking] = {}
        self.bridge = None if latent.bridge == "identity" else Bridge(self.config.hidden_size, latent.bridge)
        self.pause = nn.Parameter(torch.zeros(self.config.hidden_size)) if latent.fed == "pause" else None
        self.install_adapters(latent)

    def install_adapters(self, latent: LatentConfig) -> None:
        """Add the thought adapters that a latent configuration asks for."""
        dtype = self.embed_tokens.weight.dtype
        install_thought_adapters(self.layers, latent.adapter, latent.thought_rank, latent.thought_alpha, dtype)

    @property
    def is_calibrated(self) -> bool:
        """Whether `calibrate` has nothing left to do."""
        return self.config.latent.embed_rms is not None and (self.pause is None or bool(self.pause.any()))

    @torch.no_grad()
    def calibrate(self) -> None:
        """Measure the scale of what layer 0 sees, written to the configuration as `embed_rms`; start the pause there.

        Rows of the embedding that are zero (padding) are left out; the median over rows keeps a few unused ones
        from moving it. A pause that is still zero becomes the mean of the embeddings as layer 0 sees them.

        Raises:
            ModelError: if the decoder scales `inputs_embeds` again; a thought would then arrive at the wrong scale.
        """
        ids = torch.arange(min(4, self.config.vocab_size), device=self.embed_tokens.weight.device)[None]
        embeds = self.embed_tokens(ids)
        by_ids = super().forward(input_ids=ids, use_cache=False).last_hidden_state
        by_embeds = super().forward(inputs_embeds=embeds, use_cache=False).last_hidden_state
        if not torch.equal(by_ids, by_embeds):
            raise ModelError(
                "this decoder scales inputs_embeds inside its forward", "use transformers 5.12 or newer, which does not"
            )
        scale = (embeds.float().norm() / self.embed_tokens.weight[ids].float().norm().clamp_min(1e-30)).item()
        parts = self.embed_tokens.weight.split(65536)
        rms = torch.cat([rows.float().pow(2).mean(-1).sqrt() for rows in parts])
        update_latent(self.config, embed_rms=rms[rms > 0].median().item() * scale)
        if self.pause is not None and not self.pause.any():
            # in float32 whatever the other weights are in, as the bridge
            self.pause.data = sum(rows.float().sum(0) for rows in parts) * (scale / int((rms > 0).sum()))

    @takes_either_name
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        project: Project | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder; wherever the input is the thought token, the position before is fed back.

        Args:
            input_ids: [B, T].
            attention_mask: padding, [B, T_past + T].
            position_ids: [B, T]; counted from the cache when omitted, as in the stock decoder.
            cache: a cache to continue and extend.
            inputs_embeds: [B, T, D] instead of ids; the embedding of the thought token stands for it.
            use_cache: return a cache.
            project: hidden states [..., D] to logits [..., V]; needed while p > 0, given by the causal-LM class.
            **kwargs: as the stock decoder.

        Returns:
            As the stock decoder, hidden states of all T positions.

        Raises:
            ModelError: where the prompt has thoughts, for what a rollout cannot give; see `Rollout`.
        """
        refuse_export()
        thought = self._thoughts(input_ids, inputs_embeds)
        if thought is not None and self._thinks(thought):
            as_tuple = kwargs.pop("return_dict", None) is False
            rollout = Rollout(self, thought, attention_mask, position_ids, cache, project, use_cache, kwargs)
            rolled = rollout.run(self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds)
            return rolled.to_tuple() if as_tuple else rolled  # type: ignore[return-value]

        note, held = RolloutNote.on(cache), None
        if note is not None and note.held is not None and cache is not None:
            given = input_ids if input_ids is not None else inputs_embeds
            if given is None or isinstance(attention_mask, dict):
                raise ModelError("a continued prompt with thoughts needs ids and a padding mask", "pass input_ids")
            held = note.columns(int(cache.get_seq_length()) + given.shape[1])
            attention_mask = seen_columns(held, attention_mask)
        output = self.decoder_call(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **cache_field(cache),
            **kwargs,
        )
        if isinstance(output, BaseModelOutputWithPast) and (grown := cache_of(output)) is not None:
            hidden: Any = output.last_hidden_state
            RolloutNote.write(grown, hidden, held)
        return output

    @torch.no_grad()
    def _thoughts(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor | None:
        """Which positions are thoughts, [B, T] bool."""
        thought_id = self.config.latent.thought_id
        if input_ids is not None:
            return torch.eq(input_ids, thought_id)
        if inputs_embeds is None:
            return None
        # what prompt tuning and others make of ids before the model sees them
        token = self.embed_tokens(torch.tensor([thought_id], device=inputs_embeds.device))
        return torch.eq(inputs_embeds, token).all(-1)

    def _thinks(self, thought: Tensor) -> bool:
        settings = self.thinking
        return settings.passes > 0 or bool(thought.any() if settings.columns is None else settings.columns)

    @property
    def thinking(self) -> Thinking:
        """The settings in force in this thread."""
        return self._settings.get(threading.get_ident(), _AS_CONFIGURED)

    @contextmanager
    def with_thinking(self, settings: Thinking) -> Iterator[None]:
        """Think by these settings inside a `with` block, in this thread alone."""
        kept, thread = self.thinking, threading.get_ident()
        self._settings[thread] = settings
        try:
            yield
        finally:
            if kept is _AS_CONFIGURED:
                del self._settings[thread]
            else:
                self._settings[thread] = kept

    def decoder_call(self, **kwargs: Any) -> BaseModelOutputWithPast:
        """The stock decoder's forward; in double precision eager attention takes masks that float32 can hold."""
        if self.config._attn_implementation == "eager" and self.embed_tokens.weight.dtype == torch.float64:
            self.config._attn_implementation = LATENT_EAGER
        return super().forward(**kwargs)

    def tied_projection(self, hidden_states: Tensor) -> Tensor:
        """Logits through the tied head, for a decoder that is called without its causal-LM class."""
        if not self.config.tie_word_embeddings:
            raise ModelError(
                "a decoder alone cannot feed tokens back (p > 0) when its head is not tied", "call the causal-LM model"
            )
        logits = nn.functional.linear(hidden_states, self.embed_tokens.weight)
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap
