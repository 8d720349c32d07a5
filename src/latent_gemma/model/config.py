"""The latent part of a model's configuration, and the Gemma configurations that carry it."""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, ClassVar, get_args, get_type_hints

from transformers import CONFIG_MAPPING, Gemma2Config, Gemma3TextConfig, GemmaConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from latent_gemma.choices import (
    Adapter,
    BridgeKind,
    Fed,
    NumThoughts,
    Recurrence,
    ThoughtsPerStep,
    TokenPart,
    TrainedFor,
    Trains,
    WordsFormat,
)
from latent_gemma.errors import ConfigError, ModelError

_CHOICES = {
    "recurrence": Recurrence,
    "fed": Fed,
    "token": TokenPart,
    "bridge": BridgeKind,
    "trains": Trains,
    "adapter": Adapter,
    "words_format": WordsFormat,
    "trained_for": TrainedFor,
}


#: Settings of older versions, which their checkpoints hold, and the value that means what a model does now.
_GONE = {"mix": "linear", "question_visibility": 1.0}
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class LatentConfig:
    """How a model thinks in latent space.

    Args:
        num_thoughts: K, latent steps a prompt asks for by default; 0 or more. Where K is learnt, the most it was
            trained on.
        learned_k: the model itself ends its thinking, where its head prefers `eot`; a prompt then asks for K "auto".
        max_thoughts: bound on such a K; None takes twice `num_thoughts`.
        c_thought: thoughts that stand for one written step (COCONUT's c); "tokens" takes one for each token of it, its
            separator included.
        thoughts_per_token: with "tokens", thoughts for each of them, above 0 and at most 1; below 1 the separators are
            left out.
        recurrence: "append" adds one position per latent step; "sequence" sends all hidden states of the prompt
            through the decoder again at each step; "parallel" adds all positions at once and takes passes over them.
        parallel_passes: T, passes of "parallel"; None takes as many as there are thoughts, which more would not change.
        fed: what a thought takes: the "hidden" state before it, or "pause", one learnt constant.
        token: the token part of what is fed back: of the most probable token ("argmax"), or "soft": the mean of the
            `soft_top_k` most probable ones' embeddings, weighted by their probabilities.
        soft_top_k: how many tokens are mixed.
        soft_temperature: of the probabilities they are weighted by; above 0.
        soft_gumbel: scale of Gumbel noise on their logits; 0 for none.
        bridge: map from the normalised hidden state to the latent; every kind starts as the identity.
        p: share of the token embedding in what is fed back, 0 to 1; 1 is greedy decoding, 0 is purely latent.
        trains: "all" trains one set of weights in all phases (COCONUT); "thoughts" freezes encode and decode and
            trains the thought adapter and the bridge.
        adapter: weights active on thought positions only: none, low-rank ("lora"), or a full second set of deltas
            for every projection ("full": as much memory again as the decoder's projections).
        thought_rank: rank of the "lora" adapter.
        thought_alpha: its scale; the update is multiplied by alpha / rank.
        backprop_steps: backpropagate through the last n latent steps ("parallel": passes) only; None through all.
        step_separator: text after each written step; words and thoughts must share it.
        words_format: how the model writes its reasoning: between the thought markers, the frame that latent stages
            share ("markers"), or as `<reasoning>..</reasoning><answer>..</answer>` ("tags").
        system: text put before every question, in the user's turn; empty for none.
        trained_for: what the last stage taught the model to do before it answers; "unknown" if none was run here. See
            `own_mode`.
        bot_id: token id of begin-of-thought.
        thought_id: token id of a thought.
        eot_id: token id of end-of-thought.
        embed_rms: root mean square of the scaled token embeddings, the scale of every latent; measured when a plain
            Gemma is converted (None until then).
    """

    num_thoughts: int = 4
    learned_k: bool = False
    max_thoughts: int | None = None
    c_thought: ThoughtsPerStep = 1
    thoughts_per_token: float = 1.0
    recurrence: Recurrence = "append"
    parallel_passes: int | None = None
    fed: Fed = "hidden"
    token: TokenPart = "argmax"
    soft_top_k: int = 20
    soft_temperature: float = 1.0
    soft_gumbel: float = 0.0
    bridge: BridgeKind = "identity"
    p: float = 0.0
    trains: Trains = "all"
    adapter: Adapter = "none"
    thought_rank: int = 16
    thought_alpha: float = 32.0
    backprop_steps: int | None = None
    step_separator: str = "\n"
    words_format: WordsFormat = "markers"
    system: str = ""
    trained_for: TrainedFor = "unknown"
    # Ids 7, 8 and 9 are <unusedN> in the vocabularies of Gemma 1, 2 and 3 alike, so no embedding is resized.
    bot_id: int = 7
    thought_id: int = 8
    eot_id: int = 9
    embed_rms: float | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(
                    f"latent.{name} is {getattr(self, name)!r}", f"choose one of {', '.join(get_args(choices))}"
                )
        leasts = {"num_thoughts": 0, "c_thought": 1, "thought_rank": 1, "max_thoughts": 0, "parallel_passes": 1}
        for name, least in {**leasts, "soft_top_k": 1, "backprop_steps": 1}.items():
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise ConfigError(f"latent.{name} is {value!r}", f"give a whole number of at least {least}")
        if not 0.0 <= self.p <= 1.0:
            raise ConfigError(f"latent.p is {self.p!r}, outside [0, 1]", "give a share between 0 and 1")
        if not 0.0 < self.thoughts_per_token <= 1.0:
            raise ConfigError(
                f"latent.thoughts_per_token is {self.thoughts_per_token!r}", "give a share above 0, up to 1"
            )
        if self.soft_temperature <= 0.0 or self.soft_gumbel < 0.0:
            raise ConfigError(
                f"latent.soft_temperature {self.soft_temperature!r}, soft_gumbel {self.soft_gumbel!r}",
                "give a temperature above 0 and a noise of 0 or more",
            )
        if self.fed == "pause" and self.recurrence != "append":
            raise ConfigError(
                f"latent.fed 'pause' with recurrence {self.recurrence!r}: a constant waits for nothing", "take 'append'"
            )
        if len({self.bot_id, self.thought_id, self.eot_id}) != 3:
            raise ConfigError("latent.bot_id, thought_id and eot_id are not three different ids")

    @property
    def own_thoughts(self) -> NumThoughts:
        """K that a prompt asks for by default."""
        return "auto" if self.learned_k else self.num_thoughts

    @property
    def most_thoughts(self) -> int:
        """Bound on a learnt K."""
        return 2 * self.num_thoughts if self.max_thoughts is None else self.max_thoughts

    @property
    def passes_bound(self) -> int | None:
        """The most decoder passes that thoughts take; None where each is one."""
        return self.parallel_passes if self.recurrence == "parallel" else None

    @classmethod
    def from_value(cls, value: "LatentConfig | dict[str, Any] | None") -> "LatentConfig":
        """Read a latent configuration strictly.

        Args:
            value: a configuration, a dictionary of its fields, or None for the defaults.

        Returns:
            The configuration.

        Raises:
            ConfigError: on an unknown key or a value outside its range.
        """
        if isinstance(value, LatentConfig):
            return value
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"the latent configuration is {value!r:.40}", "write its fields as an object")
        known = {f.name for f in fields(cls)}
        value = _renamed(value or {})
        unknown = sorted(set(value) - known)
        if unknown:
            raise ConfigError(f"unknown latent setting {unknown[0]!r}", f"known are {', '.join(sorted(known))}")
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready data."""
        return asdict(self)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of a latent configuration as older versions wrote them, by their names of today."""
    values = {name: value for name, value in values.items() if name not in _GONE or value != _GONE[name]}
    older = {"lora_rank": "thought_rank", "lora_alpha": "thought_alpha"}
    return {older.get(name, name): value for name, value in values.items()}


def _check_types(latent: LatentConfig) -> None:
    """A configuration comes from a file: JSON knows more types than a field may have, and numbers that are none."""
    for name, kinds in get_type_hints(LatentConfig).items():
        value, known = getattr(latent, name), get_args(kinds) or (kinds,)
        if name in _CHOICES:
            continue
        words = {choice for kind in known for choice in get_args(kind)}  # of a Literal beside a number
        wanted = tuple(kind for kind in (*known, int if float in known else known[0]) if isinstance(kind, type))
        finite = isfinite(value) if isinstance(value, float) else True
        right = isinstance(value, wanted) and isinstance(value, bool) == (bool in wanted) and finite
        if not right and not (isinstance(value, str) and value in words):
            raise ConfigError(f"latent.{name} is {value!r:.40}", f"give {_KINDS[known[0]]}")
    if latent.embed_rms is not None and not 0.0 < latent.embed_rms < 1e6:
        raise ConfigError(f"latent.embed_rms is {latent.embed_rms:g}", "leave it out: it is measured")


def _check_markers(latent: LatentConfig, vocab_size: int) -> None:
    markers = (latent.bot_id, latent.thought_id, latent.eot_id)
    if not all(0 <= marker < vocab_size for marker in markers):
        raise ConfigError(
            f"the thought markers {markers} lie outside a vocabulary of {vocab_size} tokens",
            "set bot_id, thought_id and eot_id to unused ids of this tokenizer",
        )


class LatentConfigMixin:
    """What the three latent Gemma configurations share: a nested `latent` that survives JSON."""

    latent: Any
    #: No code of its own; TRL asks.
    auto_map: ClassVar[dict[str, str]] = {}

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)  # type: ignore[misc]
        self.latent = LatentConfig.from_value(self.latent)
        _check_markers(self.latent, self.vocab_size)  # type: ignore[attr-defined]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready data, the latent part nested under `latent`."""
        output = super().to_dict()  # type: ignore[misc]
        output["latent"] = self.latent.to_dict()
        return output

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """As the stock method; what a plain Gemma was saved with is read without a word, as PEFT does at each save."""
        found, rest = super().get_config_dict(*args, **kwargs)  # type: ignore[misc]
        if f"latent_{found.get('model_type')}" == cls.model_type:  # type: ignore[attr-defined]
            found = {**found, "model_type": cls.model_type}  # type: ignore[attr-defined]
        return found, rest


class LatentGemmaConfig(LatentConfigMixin, GemmaConfig):
    """Gemma 1 with a latent part."""

    model_type = "latent_gemma"
    latent: Any = None


class LatentGemma2Config(LatentConfigMixin, Gemma2Config):
    """Gemma 2 with a latent part."""

    model_type = "latent_gemma2"
    latent: Any = None


class LatentGemma3TextConfig(LatentConfigMixin, Gemma3TextConfig):
    """The text model of Gemma 3 with a latent part."""

    model_type = "latent_gemma3_text"
    latent: Any = None


LATENT_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "gemma": LatentGemmaConfig,
    "gemma2": LatentGemma2Config,
    "gemma3_text": LatentGemma3TextConfig,
}


def stored_latent(config: PreTrainedConfig) -> LatentConfig | None:
    """The latent part a configuration was saved with, by a latent class or by `as_plain_config`; None if it has none.

    Raises:
        ConfigError: on an unknown key or a value outside its range.
    """
    stored = getattr(config, "latent", None)
    return None if stored is None else LatentConfig.from_value(stored)


def as_latent_config(config: PreTrainedConfig, latent: LatentConfig | dict[str, Any] | None = None) -> PreTrainedConfig:
    """Give a Gemma configuration its latent part.

    Args:
        config: a plain Gemma, Gemma 2 or Gemma 3 text configuration, or a latent one.
        latent: the latent part, or fields of it that are to differ from the one that is there, or from the defaults.

    Returns:
        A configuration of the matching latent class; `config` itself is not changed.

    Raises:
        ModelError: for an architecture that is none of the three.
    """
    target: Any = type(config) if isinstance(config, LatentConfigMixin) else LATENT_CONFIGS.get(config.model_type)
    if target is None:
        raise ModelError(
            f"a model of type {config.model_type!r} is not a Gemma text model",
            f"supported are {', '.join(LATENT_CONFIGS)}",
        )
    if latent is None or isinstance(latent, dict):
        latent = (stored_latent(config) or LatentConfig()).to_dict() | (latent or {})
    kept = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    result = target(**{**kept, "latent": LatentConfig.from_value(latent)})
    # to_dict leaves the attention implementation out; without it a config made for eager would run with the default
    result._attn_implementation = config._attn_implementation
    return result


def as_plain_config(config: PreTrainedConfig, keeps_latent: bool) -> PreTrainedConfig:
    """The configuration of the stock class of a latent model's family.

    Args:
        config: of a latent model.
        keeps_latent: keep the latent part as a further entry: stock readers pass it over, and `as_latent_config`
            finds it.

    Returns:
        The configuration, its architecture named.
    """
    name = config.model_type.removeprefix("latent_")
    left_out = ("model_type", "architectures", *(() if keeps_latent else ("latent",)))
    kept = {key: value for key, value in config.to_dict().items() if key not in left_out}
    plain: PreTrainedConfig = CONFIG_MAPPING[name](**kept, architectures=[MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name]])
    return plain


#: Fields that say which weights there are.
_BUILT = ("fed", "bridge", "adapter", "thought_rank", "thought_alpha")


def update_latent(config: PreTrainedConfig, **changes: Any) -> None:
    """Replace fields of the latent part of a model that is built.

    Args:
        config: of the model; its `latent` is frozen, so that a change is always checked.
        **changes: fields and their values.

    Raises:
        ConfigError: for an unknown field, a value outside its range, or a field that says which weights there are.
    """
    now, changes = config.latent.to_dict(), _renamed(changes)
    for name in _BUILT:
        if changes.get(name, now[name]) != now[name]:
            raise ConfigError(
                f"latent.{name} cannot become {changes[name]!r} in a model that is built",
                f"load it with from_pretrained(..., latent={{{name!r}: {changes[name]!r}}})",
            )
    latent = LatentConfig.from_value(now | changes)
    _check_markers(latent, config.vocab_size)
    config.latent = latent
