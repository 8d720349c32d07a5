"""`latent-gemma train sft | coconut | anneal`: the three stages that change weights."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from transformers import set_seed

from latent_gemma.config import Count, Range, Size, check_ranges
from latent_gemma.data.load import load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.model.config import Adapter, BridgeKind, Recurrence, Trains, WordsFormat
from latent_gemma.model.loading import load_model, read_config
from latent_gemma.model.prompt import own_mode
from latent_gemma.recipes.resuming import Origin, begin, resumes, say_finished, say_stopped, step_size
from latent_gemma.recipes.stage import DataSettings, Parent, run_folder, save_stage, say_left_out
from latent_gemma.text.tags import INSTRUCTION
from latent_gemma.training.batches import OnBad
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, Curriculum, WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.lora import quantization
from latent_gemma.training.settings import LoraSettings, Resume, TrainSettings


@dataclass(frozen=True)
class Common:
    """What every training recipe takes.

    Args:
        model: directory, run folder, GGUF file, hub name, "gemma-3-270m" (extra `trial`) or "tiny".
        data: the training data.
        out: the run folder to write.
        train: the optimisation.
        resume: "yes" goes on from the newest checkpoint in `out`; "auto" does so if there is one and starts otherwise,
            so that the same command is right in every session. What was begun with other settings is refused.
        skip_bad: leave out what cannot be used (malformed rows, rows longer than the model takes, steps that spell the
            tags they stand in), each told in a line, instead of stopping.
    """

    model: str
    data: DataSettings
    out: Path
    train: TrainSettings = field(default_factory=TrainSettings)
    resume: Resume = "no"
    skip_bad: bool = False

    @property
    def on_bad(self) -> OnBad | None:
        """What is told of rows that are left out; None where none is."""
        return say_left_out if self.skip_bad else None


@dataclass(frozen=True)
class Sft(Common):
    """Text stage: learn to write the steps, then the answer.

    Args:
        reasoning: "words" writes the steps; "none" learns the answer alone, the baseline without reasoning.
        format: "markers" puts the steps between the thought markers, the frame that latent stages start from; "tags"
            writes `<reasoning>..</reasoning><answer>..</answer>`, and rows without steps as their answer alone.
        system: text before every question, in the user's turn; None asks a model with a chat template for the tags
            it is to write, and puts nothing elsewhere.
        lora: low-rank adaptation, kept as an adapter and merged at the end.
        step_separator: text after each written step; the latent stages inherit it.
    """

    reasoning: Literal["words", "none"] = "words"
    format: WordsFormat = "markers"
    system: str | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    step_separator: str = "\n"


@dataclass(frozen=True)
class LatentModel:
    """The latent part of the model that a latent stage trains.

    Args:
        c_thought: thoughts per written step.
        recurrence: "append" or "sequence".
        bridge: "identity", "linear" or "mlp".
        trains: "all" weights in all phases (COCONUT), or the "thoughts" alone: adapter and bridge, the rest frozen.
        adapter: weights active on thought positions: "none", "lora" or "full".
        lora_rank: rank of the "lora" adapter.
        backprop_steps: backpropagate through the last n latent steps only.
    """

    c_thought: int = 1
    recurrence: Recurrence = "append"
    bridge: BridgeKind = "identity"
    trains: Trains = "all"
    adapter: Adapter = "none"
    lora_rank: Annotated[Size, Range(1, 50_000)] = 16
    backprop_steps: Count | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Coconut(Common):
    """COCONUT: stage by stage, written steps are replaced by thoughts (p = 0 throughout)."""

    latent: LatentModel = field(default_factory=LatentModel)
    curriculum: CoconutCurriculum = field(default_factory=CoconutCurriculum)


@dataclass(frozen=True)
class Anneal(Common):
    """The annealed plan: all steps become thoughts while the share p of the token embedding falls to 0."""

    latent: LatentModel = field(default_factory=LatentModel)
    curriculum: AnnealCurriculum = field(default_factory=AnnealCurriculum)


def run_train(config: Sft | Coconut | Anneal) -> Path:
    """Train one stage.

    Args:
        config: its configuration.

    Returns:
        The model directory written, or the run folder if the run was stopped before its end.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    started_s = time.monotonic()
    examples = load_examples(config.data.spec("train", config.train.seed), config.on_bad)
    settings, changes, curriculum, lora = _plan(config)
    config = replace(config, train=settings)
    origin = Origin(
        type(config).__name__.lower(), config, settings.seed, Parent.of(config.model), examples,
        step_size(settings.batch_size, settings.accumulate),
    )  # fmt: skip
    with run_folder(config.out, config.resume != "no") as run:
        resume = resumes(run, config.resume, origin)
        if resume is None:
            return say_finished(run)
        quantized = quantization(lora) if lora is not None else None
        set_seed(settings.seed)  # weights that are new are drawn while loading
        model, tokenizer = load_model(config.model, changes, quantization=quantized)
        origin = replace(origin, parent=Parent.of(config.model))  # a hub model has been downloaded only now
        if isinstance(config, Sft):
            model.set_latent(system=_system_text(config, tokenizer))
        begin(run, origin)
        result = fit(
            model, tokenizer, examples, curriculum, settings, run, origin.recipe, lora, resume, started_s, config.on_bad
        )
        if not result.finished:
            return say_stopped(run, result)
        return save_stage(run, origin.record(), tokenizer, result)


def _plan(
    config: Sft | Coconut | Anneal,
) -> tuple[TrainSettings, dict[str, Any], Curriculum, LoraSettings | None]:
    """Optimisation, changes of the latent configuration, curriculum and adapter of a stage."""
    if isinstance(config, Sft):
        if config.format == "tags" and config.reasoning == "none":
            raise ConfigError("--format tags with --reasoning none", "an answer without reasoning needs no tags")
        changes: dict[str, Any] = {
            "step_separator": config.step_separator,
            "words_format": config.format,
        }
        return config.train, changes, WrittenCurriculum(config.reasoning), config.lora
    curriculum, settings = config.curriculum, config.train
    if isinstance(curriculum, CoconutCurriculum) and curriculum.epochs_per_stage > 0.0 and not settings.steps:
        settings = replace(settings, epochs=curriculum.count * curriculum.epochs_per_stage)
    stored = getattr(read_config(config.model), "latent", None)
    if stored is not None and stored.words_format == "tags" and own_mode(stored) == "words":
        raise ConfigError(
            f"{config.model} writes its words between tags, a frame that thoughts do not share",
            "start from a text stage trained with --format markers",
        )
    # The scale of the latents is measured anew: the text stage has moved the embeddings.
    changes = {**vars(config.latent), "words_format": "markers", "embed_rms": None}
    return settings, changes, curriculum, None


def _system_text(config: Sft, tokenizer: Any) -> str:
    if config.system is not None:
        return config.system
    return INSTRUCTION if config.format == "tags" and getattr(tokenizer, "chat_template", None) else ""
