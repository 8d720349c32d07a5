"""Thin callbacks: the curriculum's steps, the run's log, and a check that something trains."""

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latent_gemma.errors import RunError
from latent_gemma.training.finite_steps import FiniteSteps
from latent_gemma.training.run_log import RunLog
from latent_gemma.training.trainer import CurriculumTrainer


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
