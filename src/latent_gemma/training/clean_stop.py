"""When a run saves of itself, and a clean stop: behind its step, with a checkpoint, on a signal or in good time."""

import signal
import time
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What a checkpoint is assumed to take until one has been written: its bytes at this rate, and a little more.
SLOW_DISK_BYTES_PER_S = 100e6
LEAST_SAVE_S = 1.0
#: Of itself a run saves so many times, and after so long at the latest; saving is to take less than this share of it.
SAVES, LONGEST_GAP_S, SAVING_SHARE = 10, 600.0, 0.1


class Stop:
    """When a run is to end early: the first Ctrl-C or SIGTERM asks for it, or a deadline. Any trainer may ask it.

    The second signal ends the run at once. `asked` says afterwards whether it was told to end, `time_is_up` whether by
    the deadline.

    Args:
        started_s: `time.monotonic()` when the session began.
        max_hours: length of the session; the run stops so early that two more steps and a checkpoint would still
            fit. None for no deadline.
        saves: whether the run is to save of itself, see `save_is_due`.
    """

    def __init__(self, started_s: float, max_hours: float | None = None, saves: bool = False) -> None:
        self.asked, self.time_is_up, self.saves = False, False, saves
        self._saved_s, self._tenth = started_s, 0
        self._previous: dict[int, Any] = {}
        self._deadline_s = None if max_hours is None else started_s + 3600 * max_hours
        self._longest_step_s, self._step_began_s, self._save_s = 0.0, 0.0, 0.0

    def _ask(self, signum: int, frame: Any) -> None:
        self.asked = True
        self.end()
        again = "Ctrl-C" if signum == signal.SIGINT else "the signal"
        tqdm.write(f"stopping after this step, with a checkpoint ({again} again stops at once)")

    def begin(self, trainable_bytes: int) -> None:
        """Listen to signals; a checkpoint is taken to hold the weights that train and two Adam moments."""
        for number in SIGNALS:
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: signals are somebody else's
                break
        self._save_s = max(LEAST_SAVE_S, 3 * trainable_bytes / SLOW_DISK_BYTES_PER_S)
        self._saved_s = time.monotonic()

    def step_began(self) -> None:
        """A step begins."""
        self._step_began_s = time.monotonic()

    def step_ended(self) -> None:
        """A step is done; asks to stop if the time is up."""
        now = time.monotonic()
        self._longest_step_s = max(self._longest_step_s, now - self._step_began_s)
        is_late = self._deadline_s is not None and now + 2 * self._longest_step_s + self._save_s >= self._deadline_s
        if is_late and not self.asked:
            self.asked = self.time_is_up = True
        self._step_began_s = now

    def save_is_due(self, done: int, planned: int) -> bool:
        """Whether a run that saves of itself is to save behind this step: a tenth of it is done since the last time,
        or ten minutes have passed.

        Args:
            done: steps of the run that are done.
            planned: all of them.
        """
        if not self.saves:
            return False
        gap_s, tenth = time.monotonic() - self._saved_s, SAVES * done // planned
        due = (tenth > self._tenth and gap_s * SAVING_SHARE >= self._save_s) or gap_s >= LONGEST_GAP_S
        if due:
            self._tenth = tenth
        return due

    def saved(self) -> None:
        """A checkpoint has been written since the step ended."""
        self._saved_s = time.monotonic()
        self._save_s = max(self._save_s, self._saved_s - self._step_began_s)

    def end(self) -> None:
        """Leave the signals as they were."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class CleanStop(TrainerCallback):
    """Ends a run of Trainer early after a step, with a checkpoint, and has it save of itself; see `Stop`."""

    def __init__(self, started_s: float, max_hours: float | None = None, saves: bool = False) -> None:
        self.stop = Stop(started_s, max_hours, saves)

    @property
    def asked(self) -> bool:
        """Whether the run was told to stop; set it to stop behind this step."""
        return self.stop.asked

    @asked.setter
    def asked(self, asked: bool) -> None:
        self.stop.asked = asked

    @property
    def time_is_up(self) -> bool:
        """Whether it was told so by the deadline."""
        return self.stop.time_is_up

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ):
        self.stop.begin(sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.stop.step_began()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.stop.step_ended()
        due = self.stop.save_is_due(state.global_step, state.max_steps)
        if args.world_size > 1:
            # A signal or a clock may reach one process alone, and all have to stop and to save behind the same step.
            asked = torch.tensor([int(self.asked), int(self.time_is_up), int(due)], device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.stop.asked, self.stop.time_is_up, due = map(bool, asked.tolist())
        control.should_save = control.should_save or due
        if self.asked:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.stop.saved()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.stop.end()
