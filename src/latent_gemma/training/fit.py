"""One training run: from a model in memory to a run folder."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import encode_examples
from latent_gemma.training.callbacks import CleanStop, CurriculumCallback, MetricsFile, ProgressBar, read_metrics
from latent_gemma.training.curriculum import Curriculum
from latent_gemma.training.settings import LoraSettings, TrainSettings, last_checkpoint
from latent_gemma.training.trainer import CurriculumTrainer


@dataclass(frozen=True)
class FitResult:
    """What a run ended with.

    Args:
        model: the trained model, merged.
        metrics: the entries of metrics.jsonl.
        seconds: wall-clock time of the training loop.
        finished: False when it was stopped before its last step.
        steps: optimiser steps done.
    """

    model: LatentReasoningGemmaForCausalLM
    metrics: list[dict[str, Any]]
    seconds: float
    finished: bool
    steps: int


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

    Returns:
        The trained model and what was logged.

    Raises:
        ConfigError: if nothing would train.
        DataError: if an example is longer than the model allows.
        RunError: if `resume` finds no checkpoint.
    """
    checkpoint = last_checkpoint(run) if resume else None
    if resume and checkpoint is None:
        raise RunError(f"{run} holds no checkpoint to resume", "start it without --resume")
    frame = Frame(tokenizer, model.config.latent)
    encoded = encode_examples(frame, examples, model.config.max_position_embeddings)
    if not any(item.steps for item in encoded) and getattr(curriculum, "reasoning", "") != "none":
        raise ConfigError("no example has written steps to learn from", "use data with steps, or --reasoning none")
    trained: Any = model
    if lora is not None and lora.rank > 0:
        trained = _with_lora(model, lora)
    else:
        model.freeze_phases()
    arguments = TrainingArguments(
        output_dir=str(run / "checkpoints"),
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        adam_beta2=0.99,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        bf16=settings.precision == "bfloat16",
        activation_checkpointing=settings.checkpointing,
        logging_steps=settings.log_every,
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 500,
        save_total_limit=2,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=[],
        remove_unused_columns=False,
        # A bridge or an adapter that a stage without thoughts leaves unused is no error under DDP.
        ddp_find_unused_parameters=True if torch.cuda.device_count() > 1 else None,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    steps, bar, stop = CurriculumCallback(), ProgressBar(title), CleanStop()
    trainer = CurriculumTrainer(
        trained,
        encoded,
        frame,
        curriculum,
        args=arguments,
        callbacks=[steps, MetricsFile(run / "metrics.jsonl"), bar, stop],
    )
    steps.attach(trainer, checkpoint)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    with warnings.catch_warnings():
        # On resume the scheduler is restored ahead of the first optimiser step, which torch takes for a wrong order.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if trained is not model:
        model = trained.merge_and_unload()
    model.requires_grad_(True)
    return FitResult(
        model,
        read_metrics(run / "metrics.jsonl"),
        seconds,
        trainer.state.global_step >= trainer.state.max_steps,
        trainer.state.global_step,
    )


def _with_lora(model: LatentReasoningGemmaForCausalLM, lora: LoraSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    if not any(parameter.requires_grad for parameter in wrapped.parameters()):
        raise ConfigError("the LoRA adapter has no trainable parameter", "check lora.targets")
    return wrapped
