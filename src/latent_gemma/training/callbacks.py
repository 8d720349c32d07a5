"""Thin callbacks: the curriculum's steps, what is said, the run's log, and a check that something trains."""

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latent_gemma.errors import RunError
from latent_gemma.text.columns import facts, spoken, spoken_bytes
from latent_gemma.text.display import displayable
from latent_gemma.training.finite_steps import FiniteSteps
from latent_gemma.training.run_log import RunLog
from latent_gemma.training.settings import TrainSettings
from latent_gemma.training.trainer import CurriculumTrainer

#: What TensorBoard reads, in a run folder.
LOG = "tensorboard"


class CurriculumCallback(TrainerCallback):
    """Enters the stage of each step before it; `trainer` is set when there is one."""

    def __init__(self) -> None:
        self.trainer: CurriculumTrainer | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.stage = self.trainer.stage_before()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.enter_stage()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.gather_losses()
        self.trainer.note_loss()


class LogCallback(TrainerCallback):
    """Hands what Trainer tells to a run's log, in the first process alone."""

    def __init__(self, log: RunLog) -> None:
        self.log = log

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if state.is_world_process_zero:
            self.log.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.log.step_ended(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs: Any):
        if state.is_world_process_zero and logs:
            self.log.write(state.global_step, logs)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.log.end()


class Announcement(TrainerCallback):
    """Says what a run is going to do as it begins and, once some steps have shown it, how long that takes.

    Args:
        title: of the run.
        folder: the run folder.
        settings: the optimisation.
        brief: say a line, for a run that is one of several.
    """

    def __init__(self, title: str, folder: Path, settings: TrainSettings, brief: bool) -> None:
        self.title, self.folder, self.settings, self.brief = title, folder, settings, brief
        self.trainer: Any = None
        self.began: tuple[int, float] | None = None
        self.timed = brief

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ):
        if not state.is_world_process_zero:
            return
        sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
        trains, everything = sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)
        size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps = f"{state.max_steps:,} steps of {size} {self.trainer.step_of}"
        steps += f", from step {state.global_step:,} on" if state.global_step else ""
        thoughts = self.trainer.planned_thoughts()
        if self.brief:
            line = f"{self.title}: {trains:,} of {everything:,} parameters, {steps}; thoughts: {thoughts}"
            Console().print(Text(displayable(line), style="dim"))
            return
        said = {
            "data": self.trainer.data_in_words(),
            "plan": f"{steps}; passes over the data: {state.num_train_epochs}",
            "thoughts": thoughts,
            "trains": f"{trains:,} of {everything:,} parameters",
            "memory": self._memory(everything, trains),
            "writes": f"{self.folder}; {self._saves()}",
        }
        reports = self.settings.report_to
        if reports != "none":
            said["reports"] = f"to {reports}" + (f", in {self.folder / LOG}" if reports == "tensorboard" else "")
        Console().print(facts(said))

    def _memory(self, everything: int, trains: int) -> str:
        need = self.trainer.memory_needed(everything, trains)
        of = f", of {spoken_bytes(torch.cuda.mem_get_info()[1])}" if torch.cuda.is_available() else ""
        return f"about {spoken_bytes(need)}{of}, computed; the libraries come on top"

    def _saves(self) -> str:
        every = self.settings.save_every
        if every == 0:
            return "a checkpoint where it is stopped"
        when = "every tenth of the run and every 10 min" if every is None else f"every {every:,} steps"
        return f"a checkpoint {when}, the last two and the best by {self.trainer.best_by} are kept"

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self.timed:
            return
        if self.began is None:  # the first step of a session takes several times as long as the others
            self.began = state.global_step, time.monotonic()
            return
        step, began_s = self.began
        took_s, done = time.monotonic() - began_s, state.global_step - step
        if done >= 3 and took_s >= 5:
            self.timed = True
            left_s = took_s / done * (state.max_steps - state.global_step)
            if left_s >= 30 and state.is_world_process_zero:
                tqdm.write(f"about {spoken(left_s)} for the other {state.max_steps - state.global_step:,} steps")


class TrainsSomething(TrainerCallback):
    """Raises in the first step that should move the weights if it moves none of them.

    A step should move them if its learning rate is positive and a gradient that is not zero has arrived. (A group of
    equal rewards gives none, a warm-up may begin at rate zero, and what is not finite is skipped: such steps are passed
    over.)

    Args:
        trainer: tells which steps it skips.

    Raises:
        RunError: from `on_pre_optimizer_step` if no trainable weight gets a gradient at all, from `on_step_end` if no
            weight has moved.
    """

    def __init__(self, trainer: FiniteSteps) -> None:
        self.trainer = trainer
        self.before: tuple[Tensor, Tensor] | None = None
        self.done = False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None,
        optimizer: Any = None, **kwargs: Any,
    ):  # fmt: skip
        if self.done or self.trainer.skips:
            return
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if all(parameter.grad is None for parameter in trainable):
            raise RunError("no gradient reaches any of the weights that should train", "check what trains (--trains)")
        if not any(group["lr"] > 0 for group in optimizer.param_groups):
            return
        moved = [p for p in trainable if p.grad is not None and bool(p.grad.any())]
        # One weight that gets a gradient is enough to see whether the optimiser holds it; a copy of all would not fit.
        smallest = min(moved, key=lambda p: p.numel(), default=None)
        self.before = None if smallest is None else (smallest, smallest.detach().clone())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self.done or self.before is None or self.trainer.skips:
            return
        if torch.equal(*self.before):
            raise RunError(
                f"step {state.global_step} had a gradient and changed no weight", "raise --lr, or check what trains"
            )
        self.before, self.done = None, True
