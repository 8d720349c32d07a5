"""A training run, whatever trainer it uses: its clock, what it resumes from, what stands by, the end."""

import errno
import os
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from transformers.integrations import TensorBoardCallback

from latent_gemma.errors import RunError
from latent_gemma.launch import is_main_process
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.text.columns import wrapped
from latent_gemma.training.callbacks import LOG, Announcement, LogCallback, TrainsSomething
from latent_gemma.training.checkpoints import last_checkpoint
from latent_gemma.training.clean_stop import CleanStop
from latent_gemma.training.frozen import frozen_in_bfloat16
from latent_gemma.training.learning_rate import LEAST_RATE
from latent_gemma.training.lora import merge
from latent_gemma.training.out_of_memory import is_out_of_memory, out_of_memory
from latent_gemma.training.run_log import METRICS, RunLog, read_metrics
from latent_gemma.training.settings import TrainSettings
from latent_gemma.training.whole_checkpoints import RestoreProgress

#: A disk or a quota that is full, a bound on the size of files, a disk that has failed or can only be read.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@dataclass(frozen=True)
class FitResult:
    """What a run ended with.

    Args:
        model: the trained model, merged.
        metrics: the entries of metrics.jsonl.
        seconds: wall-clock time of the training loop, in all sessions of a run that went on.
        finished: False when it was stopped before its last step.
        steps: optimiser steps done.
        notes: what a person should know about the run, in sentences.
        asked: whether it was told to stop, if only in its last step.
        time_is_up: whether it was the deadline that told it, and no signal.
    """

    model: LatentReasoningGemmaForCausalLM
    metrics: list[dict[str, Any]]
    seconds: float
    finished: bool
    steps: int
    notes: tuple[str, ...] = ()
    asked: bool = False
    time_is_up: bool = False


def trainer_arguments(settings: TrainSettings, run: Path) -> dict[str, Any]:
    """The settings in the names of `transformers.TrainingArguments` and what is built on it.

    Args:
        settings: the optimisation.
        run: the run folder; checkpoints go there.

    Returns:
        Keyword arguments.
    """
    return {
        "output_dir": str(run / "checkpoints"),
        "max_steps": settings.steps or -1,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.lr,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "adam_beta2": 0.99,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": LEAST_RATE},
        "bf16": settings.precision == "bfloat16",
        "activation_checkpointing": settings.checkpointing,
        "logging_steps": settings.log_every,
        "save_strategy": "steps" if settings.save_every else "no",
        "save_steps": settings.save_every or 500,
        "save_total_limit": 2,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "report_to": [] if settings.report_to == "none" else [settings.report_to],
        "project": "latent-gemma",
        "run_name": run.resolve().name,
        "remove_unused_columns": False,
        # A bridge or an adapter that a stage without thoughts leaves unused is no error under DDP.
        "ddp_find_unused_parameters": True if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def bfloat16_takes() -> float:
    """How many times as long as in float32 a product of matrices takes in bfloat16 on this CPU, at best.

    It is measured: torch names the instructions that a CPU has, and not whether its libraries use them.
    """

    def seconds(dtype: torch.dtype) -> float:
        matrix, taken = torch.ones(256, 256, dtype=dtype), []
        for _ in range(4):  # the first one also sets up
            started = time.perf_counter()
            matrix @ matrix
            taken.append(time.perf_counter() - started)
        return min(taken)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def checkpoint_to_resume(run: Path) -> Path:
    """The newest whole checkpoint of a run folder; damaged ones that are newer are named on the terminal.

    Args:
        run: the run folder.

    Returns:
        The checkpoint.

    Raises:
        RunError: if there is none.
    """
    checkpoint, refused = last_checkpoint(run)
    if checkpoint is None:
        if refused:
            raise RunError(f"{refused[0]}, and no other one is whole", "start again in another folder (--out)")
        raise RunError(f"{run} holds no checkpoint to resume", "start it with --resume no, or auto")
    if is_main_process():
        for line in refused:
            tqdm.write(f"{line}; going on from {checkpoint.name}")
    return checkpoint


@dataclass(frozen=True)
class Run:
    """A run from its first moment on; `begin` begins one.

    Args:
        model: what is trained, in place.
        folder: the run folder, which holds metrics.jsonl and the checkpoints.
        settings: the optimisation.
        title: shown on the progress bar.
        checkpoint: what it goes on from, or None.
        started_s: `time.monotonic()` when the session began, from which `max_hours` counts.
        brief: it is one of several, and says no more than it has to.
    """

    model: LatentReasoningGemmaForCausalLM
    folder: Path
    settings: TrainSettings
    title: str
    checkpoint: Path | None
    started_s: float
    brief: bool = False

    @classmethod
    def begin(
        cls, model: LatentReasoningGemmaForCausalLM, folder: Path, settings: TrainSettings, title: str, resume: bool,
        started_s: float | None, brief: bool = False,
    ) -> "Run":  # fmt: skip
        """Start the clock, look for a checkpoint, and seed: an adapter draws weights before there is a trainer.

        Args:
            model: see `Run`.
            folder: see `Run`.
            settings: see `Run`.
            title: see `Run`.
            resume: go on from the newest checkpoint.
            started_s: see `Run`; None takes now.
            brief: see `Run`.

        Returns:
            The run.

        Raises:
            RunError: if `resume` finds no checkpoint.
        """
        started_s = time.monotonic() if started_s is None else started_s
        checkpoint = checkpoint_to_resume(folder) if resume else None
        set_seed(settings.seed)
        return cls(model, folder, settings, title, checkpoint, started_s, brief)

    def log(self, describe: Callable[[dict[str, Any]], dict[str, str]], tokens: str) -> RunLog:
        """What tells of the run, see `RunLog`."""
        return RunLog(self.folder, self.title, describe, tokens)

    def callbacks(self, describe: Callable[[dict[str, Any]], dict[str, str]], tokens: str) -> list[TrainerCallback]:
        """What tells of a run of Trainer's: what it is going to do (see `Announcement`), and its log."""
        announcement = Announcement(self.title, self.folder, self.settings, self.brief)
        return [announcement, LogCallback(self.log(describe, tokens))]

    def train(self, trainer: Any, trained: Any) -> FitResult:
        """Train to the end, or to where a callback stops it.

        In bfloat16, frozen matrices are held in bfloat16 meanwhile. Not where they are sharded: FSDP2 gathers them in
        bfloat16 as it is, and a shard is not a weight that could be put back. Nor where vLLM writes the rollouts: for
        it, TRL merges the adapter into the frozen weights and takes it out again, which bfloat16 would not survive.

        Args:
            trainer: the trainer.
            trained: what the trainer was given, the model or a PEFT wrapper of it; a wrapper is kept as `adapter` in
                the run folder and merged.

        Returns:
            The trained model and what was logged.

        Raises:
            RunError: if memory or disk run out, and for what the trainer's guards find.
        """
        if self.settings.save_every != 0 and is_main_process():
            trainer.check_room(self.folder)
        if trainer.args.bf16 and trainer.args.use_cpu and is_main_process() and (times := bfloat16_takes()) > 2:
            said = f"--precision bfloat16 is slow on this CPU: a product of matrices takes {times:.0f} times as long as"
            tqdm.write(wrapped(f"{said} in float32. --precision float32 is the remedy."))
        for each in trainer.callback_handler.callbacks:
            if isinstance(each, Announcement):
                each.trainer = trainer
            if isinstance(each, TensorBoardCallback) and each.logging_dir is None:
                each.logging_dir = str(self.folder / LOG)
        trainer.add_callback(RestoreProgress(trainer))
        trainer.add_callback(TrainsSomething(trainer))
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        halves = trainer.args.bf16 and not trainer.is_sharded and not getattr(trainer.args, "use_vllm", False)
        started = time.monotonic()
        with warnings.catch_warnings():
            # On resume the scheduler is restored ahead of the first step, which torch takes for a wrong order.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            try:
                with frozen_in_bfloat16(self.model) if halves else nullcontext():
                    trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise RunError(
                    f"{self.folder} cannot be written: {error.strerror or error}", "make room there"
                ) from error
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(trainer.args, trainer.state.global_step + 1, error) from error
            finally:
                for each in trainer.callback_handler.callbacks:
                    if isinstance(each, LogCallback):
                        each.log.end()  # what is wrong is told in a line of its own
        logs = [each.log for each in trainer.callback_handler.callbacks if isinstance(each, LogCallback)]
        seconds = time.monotonic() - started + sum(log.earlier_s for log in logs)
        done, planned = trainer.state.global_step, trainer.state.max_steps
        finished = done >= planned
        stops = [each for each in trainer.callback_handler.callbacks if isinstance(each, CleanStop)]
        asked, time_is_up = any(stop.asked for stop in stops), any(stop.time_is_up for stop in stops)
        if not finished and not asked:
            raise RunError(
                f"{self.folder} ended at step {done} of {planned} by itself", "give more rows, or a smaller batch"
            )
        model = self.model
        if trained is not model and finished:
            model = merge(trained, self.folder / "adapter")
        model.requires_grad_(True)
        metrics = read_metrics(self.folder / METRICS)
        return FitResult(model, metrics, seconds, finished, done, (), asked, time_is_up)
