"""The Gemma classes that think: one per family, and the name users type."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Gemma2ForCausalLM,
    Gemma2Model,
    Gemma3ForCausalLM,
    Gemma3TextModel,
    GemmaForCausalLM,
    GemmaModel,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model.adapters import PREFIX, load_updates, start_update
from latent_gemma.model.address import address
from latent_gemma.model.config import (
    LatentConfig,
    LatentConfigMixin,
    LatentGemma2Config,
    LatentGemma3TextConfig,
    LatentGemmaConfig,
    as_latent_config,
    as_plain_config,
    stored_latent,
    update_latent,
)
from latent_gemma.model.decoder import LatentDecoder, refuse_export
from latent_gemma.model.feedback import ZeroLinear
from latent_gemma.model.halting import AnswerBound, ThinkOrStop, check_grows, thinking_columns
from latent_gemma.model.never import NeverThought
from latent_gemma.model.prompt import append_thoughts, own_mode
from latent_gemma.model.stock import CACHE, cache_field, cache_of, takes_either_name
from latent_gemma.model.thinking import Thinking

#: Keywords of the loader that a configuration has an attribute for as well.
_LOADER_ARGUMENTS = ("dtype", "torch_dtype", "quantization_config", "attn_implementation")
_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def _init_latent_weights(module: nn.Module) -> None:
    """Identity start of the latent part, through transformers' guarded functions, which spare loaded weights."""
    if isinstance(module, ZeroLinear):
        init.zeros_(module.weight)
        init.zeros_(module.bias)
    if isinstance(module, LatentDecoder) and module.pause is not None:
        init.zeros_(module.pause)
    start_update(module)


class _LatentWeights:
    """What decoder and causal-LM classes share: how latent weights start, and which stay in float32."""

    _keys_to_ignore_on_load_missing: set[str] | list[str] | None = [r"bridge\.", r"pause$", PREFIX]  # noqa: RUF012
    _keep_in_fp32_modules_strict: set[str] | list[str] | None = {"bridge", "pause"}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]
        _init_latent_weights(module)


class LatentGemmaModel(_LatentWeights, LatentDecoder, GemmaModel):
    """Decoder of Gemma 1 with a latent phase."""

    config_class = LatentGemmaConfig

    def __init__(self, config: LatentGemmaConfig) -> None:
        super().__init__(config)
        self.build_latent()
        self.post_init()


class LatentGemma2Model(_LatentWeights, LatentDecoder, Gemma2Model):
    """Decoder of Gemma 2 with a latent phase."""

    config_class = LatentGemma2Config

    def __init__(self, config: LatentGemma2Config) -> None:
        super().__init__(config)
        self.build_latent()
        self.post_init()


class LatentGemma3TextModel(_LatentWeights, LatentDecoder, Gemma3TextModel):
    """Text decoder of Gemma 3 with a latent phase."""

    config_class = LatentGemma3TextConfig

    def __init__(self, config: LatentGemma3TextConfig) -> None:
        super().__init__(config)
        self.build_latent()
        self.post_init()


if TYPE_CHECKING:
    # Every instance is a stock causal-LM model too: the families below put this class in front of one.
    class _Stock(PreTrainedModel, GenerationMixin): ...
else:
    _Stock = object


def _bridge_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a bridge computes in beside weights of some dtype: no half precision."""
    return torch.promote_types(dtype, torch.float32)


class LatentReasoningGemmaForCausalLM(_Stock):
    """A Gemma that reasons in continuous latent space.

    Calling this class, or its `from_pretrained`, looks at the configuration and gives the class of the right family.
    A prompt asks for K latent steps by ending in `bot, thought x K, eot`; without thoughts the model is plain Gemma.

    Args:
        config: a plain Gemma, Gemma 2 or Gemma 3 text configuration, or a latent one.

    Source: Hao et al. 2024 (COCONUT, arXiv 2412.06769), section 3. It differs in the scale of what is fed back: the
    hidden state is brought to the root mean square of the token embeddings, and may be mixed with one (`p`).
    """

    decoder_class: ClassVar[type[LatentDecoder]]
    #: Set it, and `generate` lets prompts without markers think `num_thoughts` steps (the earlier package's usage).
    tokenizer: Any = None

    def __new__(cls, config: PreTrainedConfig | None = None, *args: Any, **kwargs: Any) -> Any:
        if cls is LatentReasoningGemmaForCausalLM:
            if config is None:
                raise ConfigError("a model needs a configuration", "pass config=, or load one with from_pretrained")
            cls = _FAMILIES[as_latent_config(config).model_type]
        return object.__new__(cls)

    def __init__(self, config: PreTrainedConfig) -> None:
        config = as_latent_config(config, None if stored_latent(config) else self._default_latent())
        # The stock class would build the stock decoder first; past it, its few lines stand here.
        PreTrainedModel.__init__(self, config)
        self.model = self.decoder_class(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @staticmethod
    def _default_latent() -> LatentConfig:
        """The latent part that a plain Gemma is given where nothing else is said."""
        return LatentConfig()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        config: PreTrainedConfig | None = None,
        latent: LatentConfig | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a plain Gemma (the latent part is added at its identity start) or a saved latent one.

        Args:
            pretrained_model_name_or_path: directory or hub name.
            *args: as transformers.
            config: a configuration to use instead of the stored one.
            latent: the latent part, or fields of it that are to differ from the stored one (from the defaults for a
                plain Gemma).
            **kwargs: as transformers, fields of the configuration among them; `gguf_file` loads a plain Gemma in GGUF
                form.

        Returns:
            A model of the family's class, its latent scale measured; as transformers with `output_loading_info`.

        Raises:
            ModelError: if the architecture is not a Gemma text model.
            ConfigError: if the latent part does not fit (marker ids outside the vocabulary, unknown key).
        """
        if kwargs.get("gguf_file"):
            return LatentReasoningGemmaForCausalLM.from_base(
                AutoModelForCausalLM.from_pretrained(pretrained_model_name_or_path, *args, **kwargs), latent
            )
        kwargs.setdefault("use_safetensors", True)  # the other format is a pickle
        hub = {key: kwargs[key] for key in _HUB_ARGUMENTS if key in kwargs}
        if not isinstance(config, PreTrainedConfig):
            config = AutoConfig.from_pretrained(config or pretrained_model_name_or_path, **hub)
        fields = [name for name in kwargs if hasattr(config, name) and name not in _LOADER_ARGUMENTS]
        config = copy.deepcopy(config)
        for name in fields:
            setattr(config, name, kwargs.pop(name))
        converts = not isinstance(config, LatentConfigMixin)
        if latent is None and stored_latent(config) is None:
            latent = cls._default_latent()
        config = as_latent_config(config, latent)
        quantizes = kwargs.get("quantization_config") or getattr(config, "quantization_config", None)
        adapted = config.latent if quantizes and config.latent.adapter != "none" else None
        if adapted is not None:  # a quantiser replaces plain Linears alone: the adapters come on top of what it makes
            config = as_latent_config(config, replace(adapted, adapter="none"))
        loader: Any = super(LatentReasoningGemmaForCausalLM, _FAMILIES[config.model_type])
        loaded = loader.from_pretrained(pretrained_model_name_or_path, *args, config=config, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if adapted is not None:
            model.config.latent = adapted
            model.model.install_adapters(adapted)
            load_updates(model, pretrained_model_name_or_path, hub)
        if model.model.bridge is not None:
            model.model.bridge.to(_bridge_dtype(model.dtype))  # one that is new has been made in the dtype of the rest
        if not model.model.is_calibrated:
            model.model.calibrate()
        if converts:
            model._name_anew(str(pretrained_model_name_or_path), hub)
        return loaded

    @classmethod
    def from_base(cls, base: PreTrainedModel, latent: LatentConfig | dict[str, Any] | None = None) -> Any:
        """Turn a plain Gemma in memory into a latent one; the weights are shared, not copied.

        Args:
            base: a `GemmaForCausalLM`, `Gemma2ForCausalLM` or `Gemma3ForCausalLM`.
            latent: the latent part; None takes the one it was saved with, or else the defaults.

        Returns:
            The latent model, its scale measured.

        Raises:
            ModelError: for any other architecture.
        """
        config = as_latent_config(base.config, latent or stored_latent(base.config) or cls._default_latent())
        # A GGUF file is dequantised on loading, but its configuration still says otherwise and forbids training.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = LatentReasoningGemmaForCausalLM(config)
        missing = model.load_state_dict(base.state_dict(), strict=False, assign=True).missing_keys
        model.tie_weights()
        if base.device.type != "meta":
            for name in missing:  # what a plain Gemma lacks comes to where it is
                part = model.get_parameter(name)
                part.data = part.data.to(base.device, _bridge_dtype(base.dtype) if "bridge" in name else base.dtype)
        own = dict(model.named_buffers())
        for name, buffer in base.named_buffers():  # those in no state dict: rounded where `base.to(dtype)` did so
            if name in own and not buffer.is_meta:
                module, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(module), leaf, buffer)
        model.generation_config = base.generation_config
        model.train(base.training)
        model.model.calibrate()
        if not isinstance(base, LatentReasoningGemmaForCausalLM):
            model._name_anew(base.config._name_or_path, {})
        return model

    def _name_anew(self, name: str, hub: dict[str, Any]) -> None:
        """Take a name under which trainers find this model, and not the plain Gemma of that name."""
        self.config.architectures = [type(self).__name__]
        self.config._name_or_path = address(self.config, name, hub)

    @property
    def is_plain(self) -> bool:
        """Whether it was trained to do without thoughts and has no weights that a stock Gemma lacks."""
        trained_for = self.config.latent.trained_for
        return trained_for in ("words", "none") and not any(is_latent_parameter(n) for n, _ in self.named_parameters())

    def save_plain(self, folder: Path, keeps_latent: bool) -> None:
        """Write the stock Gemma in this model, which loads without this package.

        Args:
            folder: the directory; it is made if missing.
            keeps_latent: see `as_plain_config`. Weights of thoughts alone are left out either way.

        Raises:
            OSError: if it cannot be written.
        """
        kept = {name: value for name, value in self.state_dict().items() if not is_latent_parameter(name)}
        self.save_pretrained(folder, state_dict=kept)
        as_plain_config(self.config, keeps_latent).save_pretrained(folder)

    def project(self, hidden_states: Tensor) -> Tensor:
        """Logits [..., V] of final hidden states [..., D], through the model's own head, final softcap included."""
        return self.capped(self.lm_head(hidden_states))

    def capped(self, logits: Tensor) -> Tensor:
        """Logits [..., V] under the final softcap, where the model has one."""
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @takes_either_name
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        read: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As the stock causal-LM forward; positions that hold the thought id take the hidden state before them.

        Args:
            input_ids: [B, T] int64.
            attention_mask: padding, [B, T_past + T]; without thoughts also what the stock forward takes.
            position_ids: [B, T] int64; counted from the cache when omitted.
            cache: a cache to continue and extend.
            inputs_embeds: [B, T, D] instead of ids.
            labels: [B, T] int64, -100 where the loss reads nothing; shifted by one here.
            use_cache: return a cache.
            logits_to_keep: of how many last positions logits are made, or which; 0 for all.
            read: [N] int64, counted through the flattened batch [B * T]: the positions whose logits are given, [N, V].
                `logits_to_keep` takes a mask for this, for which the host waits for the device.
            **kwargs: as the stock forward.

        Returns:
            As the stock forward.
        """
        refuse_export()
        given: dict[str, Any] = {
            "input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids, CACHE: cache,
            "inputs_embeds": inputs_embeds, "use_cache": use_cache, "project": self.project, **kwargs,
        }  # fmt: skip
        if read is None:
            output: CausalLMOutputWithPast = super().forward(labels=labels, logits_to_keep=logits_to_keep, **given)
            return output
        decoded = self.model(**given)
        return CausalLMOutputWithPast(
            logits=self.project(decoded.last_hidden_state.flatten(0, 1)[read]),
            hidden_states=decoded.hidden_states,
            attentions=decoded.attentions,
            **cache_field(cache_of(decoded)),
        )

    @property
    def never_generated(self) -> list[int]:
        """Ids that no decoding chooses: the thought's, and what the generation configuration suppresses."""
        return sorted({*(self.generation_config.suppress_tokens or ()), self.config.latent.thought_id})

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriteria] | None = None,
        *args: Any,
        num_thoughts: NumThoughts | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `GenerationMixin.generate`, with an option to let bare prompts think.

        The thought id is never generated, but for a model's own thoughts with K "auto".

        Args:
            inputs: prompt ids, [B, T].
            generation_config: as `GenerationMixin.generate`.
            logits_processor: as `GenerationMixin.generate`.
            stopping_criteria: as `GenerationMixin.generate`.
            *args: as `GenerationMixin.generate`.
            num_thoughts: K: each prompt thinks so many steps first, but for one that ends in a marker already. None
                leaves prompts alone, unless `model.tokenizer` has been set and the model was trained to think (then
                its own K). With "auto" a prompt ends in `bot`, and its thoughts are generated until the model's head
                prefers `eot`, or the search or the sampling takes it: until then nothing else can follow; and
                `max_new_tokens` bounds what comes behind. In what is returned padding stands for the thoughts, so that
                text is the prompt and the answer.
            **kwargs: as `GenerationMixin.generate`.

        Returns:
            As `GenerationMixin.generate`; without the cache where prompts were made to think.

        Raises:
            ConfigError: for a K below 0, or one without ids to append it to or with a cache to extend, or "auto" in a
                recurrence that cannot add a thought.
            ModelError: for contrastive search, or with K "auto" an assistant that thinks.
        """
        if kwargs.get("penalty_alpha") or getattr(generation_config, "penalty_alpha", None):
            raise ModelError("contrastive search is no mode of a model that thinks", "sample, or search with beams")
        latent: LatentConfig = self.config.latent
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        thinks = self.tokenizer is not None and ids is not None and own_mode(latent) == "latent"
        if num_thoughts is None and thinks:
            num_thoughts = latent.own_thoughts
        processors = LogitsProcessorList([*(logits_processor or ()), NeverThought(latent.thought_id)])
        if num_thoughts is None:
            return super().generate(inputs, generation_config, processors, stopping_criteria, *args, **kwargs)
        grows = num_thoughts == "auto"
        if not grows and (not isinstance(num_thoughts, int) or isinstance(num_thoughts, bool) or num_thoughts < 0):
            raise ConfigError(f"num_thoughts is {num_thoughts!r}", 'give a whole number of at least 0, or "auto"')
        if grows:
            check_grows(latent)
            if isinstance(kwargs.get("assistant_model"), LatentReasoningGemmaForCausalLM):
                raise ModelError('a latent model cannot draft thoughts for K "auto"', "draft with a plain Gemma")
        if ids is None:
            raise ConfigError(f"num_thoughts={num_thoughts} without a prompt's ids", "pass input_ids")
        kwargs.pop("input_ids", None)
        pad_id, ends = self._padding(generation_config, kwargs)
        asked = append_thoughts(
            ids, kwargs.pop("attention_mask", None), latent, num_thoughts, None if pad_id in ends else pad_id
        )
        cached = any(kwargs.get(name) is not None for name in ("cache", "past_key_values"))
        if cached and bool(asked.added.any()):
            raise ConfigError(
                f"num_thoughts={num_thoughts} with a cache", "put the markers into the ids, or leave the cache out"
            )
        bound = self._answer_bound(generation_config, kwargs) if grows else None
        length = asked.added.shape[1]
        if bound is not None:
            kwargs["max_new_tokens"] = latent.most_thoughts + 1 + bound
            stopping_criteria = StoppingCriteriaList([*(stopping_criteria or ()), AnswerBound(latent, bound, length)])
        if grows:
            processors[-1] = ThinkOrStop(latent, length)
        output = super().generate(
            asked.input_ids, generation_config, processors, stopping_criteria, *args,
            attention_mask=asked.attention_mask, **kwargs,
        )  # fmt: skip
        sequences = output if isinstance(output, Tensor) else output.sequences
        unseen = torch.zeros_like(sequences, dtype=torch.bool)
        unseen[:, :length] = asked.added.repeat_interleave(len(sequences) // len(ids), dim=0)
        if grows:
            own = thinking_columns(sequences, length, latent)[:, None]
            columns = torch.arange(sequences.shape[1] - length, device=own.device)
            # an assistant's tokens are taken several at a time, and may reach beyond the bound
            unseen[:, length:] = (columns < own) | (False if bound is None else columns >= own + bound)
        sequences.masked_fill_(unseen, next(iter(ends), 0) if pad_id is None else pad_id)
        if not isinstance(output, Tensor) and CACHE in output:
            output[CACHE] = None  # it holds the thoughts, which the ids do not
        return output

    def _setting(self, name: str, given: GenerationConfig | None, kwargs: dict[str, Any]) -> Any:
        """A setting of generation, as `generate` finds it."""
        sources = (kwargs.get(name), getattr(given, name, None), getattr(self.generation_config, name, None))
        return next((value for value in sources if value is not None), None)

    def _padding(self, given: GenerationConfig | None, kwargs: dict[str, Any]) -> tuple[int | None, set[int]]:
        """The id of padding, if there is one, and the ids that end a text."""
        ends = self._setting("eos_token_id", given, kwargs)
        pad_id = self._setting("pad_token_id", given, kwargs)
        return pad_id, {*(ends if isinstance(ends, list | tuple) else () if ends is None else (ends,))}

    def _answer_bound(self, given: GenerationConfig | None, kwargs: dict[str, Any]) -> int | None:
        """Tokens of an answer at most; None where a length in all is given."""
        bound = self._setting("max_new_tokens", given, kwargs)
        if bound is None and self._setting("max_length", given, kwargs) is None:
            bound = 20  # where nobody says anything, transformers generates so many
        return None if bound is None else int(bound)

    def prepare_inputs_for_generation(self, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any) -> Any:
        """As the stock method; the cache by its older name, which PEFT's prompt and prefix tuning look for."""
        inputs = super().prepare_inputs_for_generation(*args, inputs_embeds=inputs_embeds, **kwargs)
        if "cache" in inputs:
            inputs["past_key_values"] = inputs.pop("cache")
        return inputs

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """Hand the padding mask on: a prompt with thoughts is several decoder calls, each with its own mask."""
        return attention_mask

    @contextmanager
    def thinking(self, **settings: Any) -> Iterator[Thinking]:
        """Change how thoughts are made inside a `with` block, in this thread; see `Thinking`.

        Args:
            **settings: fields of `Thinking`, on top of those already in force.

        Yields:
            The settings in force.

        Raises:
            ConfigError: for a value outside its range.
        """
        decoder: LatentDecoder = self.model
        changed = replace(decoder.thinking, **settings)
        with decoder.with_thinking(changed):
            yield changed

    def set_latent(self, **changes: Any) -> None:
        """Replace fields of the latent configuration that need no rebuilding (p, num_thoughts, ...)."""
        update_latent(self.config, **changes)

    def freeze_phases(self) -> int:
        """Let exactly the parameters train that `latent.trains` names.

        Returns:
            The number of trainable values.

        Raises:
            ConfigError: if that is none.
        """
        everything = self.config.latent.trains == "all"
        total = 0
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(everything or is_latent_parameter(name))
            total += parameter.numel() if parameter.requires_grad else 0
        if total == 0:
            raise ConfigError(
                "latent.trains is 'thoughts' but the model has neither a thought adapter nor a bridge that could train",
                "set latent.adapter to lora or full, or latent.bridge to linear or mlp",
            )
        return total


def is_latent_parameter(name: str) -> bool:
    """Whether a parameter belongs to the latent part (thought adapter, bridge, pause) and not to plain Gemma."""
    parts = name.split(".")
    return "bridge" in parts or parts[-1] == "pause" or parts[-1].startswith(PREFIX)


class LatentGemmaForCausalLM(_LatentWeights, LatentReasoningGemmaForCausalLM, GemmaForCausalLM):
    """Gemma 1 that reasons in latent space."""

    config_class = LatentGemmaConfig
    decoder_class = LatentGemmaModel


class LatentGemma2ForCausalLM(_LatentWeights, LatentReasoningGemmaForCausalLM, Gemma2ForCausalLM):
    """Gemma 2 that reasons in latent space."""

    config_class = LatentGemma2Config
    decoder_class = LatentGemma2Model


class LatentGemma3ForCausalLM(_LatentWeights, LatentReasoningGemmaForCausalLM, Gemma3ForCausalLM):
    """Gemma 3 (text) that reasons in latent space."""

    config_class = LatentGemma3TextConfig
    decoder_class = LatentGemma3TextModel


_FAMILIES: dict[str, type[LatentReasoningGemmaForCausalLM]] = {
    "latent_gemma": LatentGemmaForCausalLM,
    "latent_gemma2": LatentGemma2ForCausalLM,
    "latent_gemma3_text": LatentGemma3ForCausalLM,
}


def register() -> None:
    """Make `AutoConfig`, `AutoModel` and `AutoModelForCausalLM` know the latent classes; safe to call twice."""
    for model_type, family in _FAMILIES.items():
        config_class: Any = family.config_class
        AutoConfig.register(model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, family.decoder_class, exist_ok=True)
        AutoModelForCausalLM.register(config_class, family, exist_ok=True)
