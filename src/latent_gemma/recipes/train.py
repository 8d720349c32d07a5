"""`latent-gemma train sft | coconut | anneal | pause | internalize | codi`: what learns from written steps."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from latent_gemma.data.load import load_examples
from latent_gemma.engines.choice import engine_of, refuse_tunix
from latent_gemma.errors import ConfigError
from latent_gemma.model.loading import load_model, read_config
from latent_gemma.model.prompt import own_mode
from latent_gemma.options.stages import Anneal, Coconut, Codi, Internalize, Pause, Sft
from latent_gemma.recipes.resume import Origin, begin, resumes, say_finished, say_stopped, step_size
from latent_gemma.recipes.stage import Parent, bad_rows, run_folder, save_stage, say_options
from latent_gemma.text.tags import INSTRUCTION
from latent_gemma.training.curriculum import Curriculum, StagedCurriculum, WrittenCurriculum
from latent_gemma.training.lora import quantization
from latent_gemma.training.settings import LoraSettings, TrainSettings

#: What these verbs are asked for; `Pause` is a `Coconut`.
Config = Sft | Coconut | Internalize | Anneal | Codi


def run_train(config: Config) -> Path:
    """Train one stage.

    Args:
        config: its configuration.

    Returns:
        The model directory written, or the run folder if the run was stopped before its end.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    started_s = time.monotonic()
    if not isinstance(config, Sft):
        refuse_tunix(config.train, "latent stages")
    settings, changes, curriculum, lora = _plan(config)
    engine = engine_of(settings, lora)
    examples = load_examples(config.data.spec("train", config.train.seed), bad_rows(config))
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
        say_options(origin.recipe, config)
        result = engine.fit(
            model, tokenizer, examples, curriculum, settings, run, origin.recipe, lora, resume, started_s,
            bad_rows(config),
        )  # fmt: skip
        if not result.finished:
            return say_stopped(run, result)
        return save_stage(run, origin.record(), tokenizer, result)


def _plan(config: Config) -> tuple[TrainSettings, dict[str, Any], Curriculum, LoraSettings | None]:
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
    if isinstance(curriculum, StagedCurriculum) and curriculum.epochs_per_stage > 0.0 and not settings.steps:
        settings = replace(settings, epochs=curriculum.count * curriculum.epochs_per_stage)
    stored = getattr(read_config(config.model), "latent", None)
    if stored is not None and stored.words_format == "tags" and own_mode(stored) == "words":
        raise ConfigError(
            f"{config.model} writes its words between tags, a frame that these stages do not share",
            "start from a text stage trained with --format markers",
        )
    # The scale of the latents is measured anew: the text stage has moved the embeddings.
    latent = {} if isinstance(config, Internalize) else vars(config.latent)
    fed = "pause" if isinstance(config, Pause) else "hidden"
    changes = {**latent, "fed": fed, "words_format": "markers", "embed_rms": None}
    if isinstance(config, Codi):  # the parent may have learnt its K
        return settings, changes | {"learned_k": False}, curriculum, config.lora
    return settings, changes, curriculum, None


def _system_text(config: Sft, tokenizer: Any) -> str:
    if config.system is not None:
        return config.system
    return INSTRUCTION if config.format == "tags" and getattr(tokenizer, "chat_template", None) else ""
