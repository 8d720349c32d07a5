"""One training run: from a model in memory to a run folder."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments, set_seed

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import encode_examples
from latent_gemma.training.callbacks import (
    CurriculumCallback,
    MetricsFile,
    ProgressBar,
    describe_curriculum,
)
from latent_gemma.training.curriculum import Curriculum
from latent_gemma.training.lora import with_lora
from latent_gemma.training.running import FitResult, checkpoint_to_resume, run_trainer, trainer_arguments
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.training.stopping import CleanStop
from latent_gemma.training.trainer import CurriculumTrainer


def fit(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    examples: Sequence[Example],
    curriculum: Curriculum,
    settings: TrainSettings,
    run: Path,
    title: str,
    lora: LoraSettings | None = None,
    resume: bool = False,
    started_s: float | None = None,
) -> FitResult:
    """Train a model along a curriculum.

    Args:
        model: trained in place.
        tokenizer: its tokenizer.
        examples: the training examples.
        curriculum: what is latent, and when.
        settings: the optimisation.
        run: the run folder; metrics.jsonl and checkpoints go there.
        title: shown on the progress bar.
        lora: train a low-rank update of the whole model and merge it at the end.
        resume: go on from the newest checkpoint in `run`.
        started_s: `time.monotonic()` when the session began, from which `max_hours` counts; None takes now.

    Returns:
        The trained model and what was logged.

    Raises:
        ConfigError: if nothing would train.
        DataError: if an example is longer than the model allows.
        RunError: if `resume` finds no checkpoint.
    """
    started_s = time.monotonic() if started_s is None else started_s
    checkpoint = checkpoint_to_resume(run) if resume else None
    set_seed(settings.seed)  # an adapter draws its first weights before there is a trainer
    frame = Frame(tokenizer, model.config.latent)
    encoded = encode_examples(frame, examples, model.config.max_position_embeddings)
    has_steps = frame.latent.words_format == "tags" or any(item.steps for item in encoded)
    if not has_steps and getattr(curriculum, "reasoning", "") != "none":
        raise ConfigError("no example has written steps to learn from", "use data with steps, or --reasoning none")
    trained: Any = model
    if lora is not None and lora.rank > 0:
        trained = with_lora(model, lora)
    else:
        model.freeze_phases()
    arguments = TrainingArguments(**trainer_arguments(settings, run))
    steps = CurriculumCallback()
    trainer = CurriculumTrainer(
        trained,
        encoded,
        frame,
        curriculum,
        settings.group_by_length,
        args=arguments,
        max_skipped=settings.max_skipped,
        callbacks=[
            steps,
            MetricsFile(run / "metrics.jsonl"),
            ProgressBar(title, describe_curriculum, "tokens"),
            CleanStop(started_s, settings.max_hours),
        ],
    )
    steps.trainer = trainer
    return run_trainer(trainer, model, trained, run, checkpoint)
