"""Thin callbacks: the curriculum's steps, the metrics file, the progress bar, a clean stop."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latent_gemma.training.trainer import CurriculumTrainer


class CurriculumCallback(TrainerCallback):
    """Enters the stage of each step before it, and carries the loss gate through checkpoints."""

    FILE = "curriculum.json"

    def __init__(self) -> None:
        self.trainer: CurriculumTrainer | None = None

    def attach(self, trainer: CurriculumTrainer, checkpoint: Path | None) -> None:
        """Name the trainer whose curriculum this drives.

        Args:
            trainer: the trainer.
            checkpoint: what it resumes from; the gate goes on where it was.
        """
        self.trainer = trainer
        if checkpoint is not None:
            kept = json.loads((checkpoint / self.FILE).read_text(encoding="utf-8"))
            trainer.gate_position, trainer.smoothed_loss = kept["gate_position"], kept["smoothed_loss"]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.stage = self.trainer.stage_before()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.enter_stage()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        self.trainer.note_loss()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        assert self.trainer is not None
        kept = {"gate_position": self.trainer.gate_position, "smoothed_loss": self.trainer.smoothed_loss}
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            (folder / self.FILE).write_text(json.dumps(kept), encoding="utf-8")


class MetricsFile(TrainerCallback):
    """Appends every log entry to `metrics.jsonl`, one JSON object a line.

    Args:
        path: the file. Entries from steps after the one training resumes at are dropped first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started_s = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.started_s = time.monotonic()
        if not state.is_world_process_zero or not self.path.exists():
            return
        kept = [line for line in read_metrics(self.path) if line["step"] <= state.global_step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs: Any):
        if not state.is_world_process_zero or not logs:
            return
        entry = {"step": state.global_step, "seconds": round(time.monotonic() - self.started_s, 3), **logs}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The entries of a metrics file; a last line that was cut off by a kill is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


class ProgressBar(TrainerCallback):
    """One line: loss, p, K, stage, gradient norm of the first and last latent step, tokens/s, time left."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: tqdm | None = None
        self.trainer: CurriculumTrainer | None = None
        self.started_s = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.started_s = time.monotonic()
        if state.is_world_process_zero:
            # In a file or a pipe every refresh is another line: a few are enough.
            often_s = 0.2 if sys.stderr.isatty() else 30.0
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=self.title,
                dynamic_ncols=True,
                mininterval=often_s,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs: Any):
        if self.bar is None or not logs or "loss" not in logs:
            return
        rate = logs["tokens"] / max(1e-9, time.monotonic() - self.started_s)
        shown = {"loss": f"{logs['loss']:.3f}", "p": f"{logs['p']:.2f}", "K": logs["K"], "stage": logs["stage"]}
        norms = [value for name, value in logs.items() if name.startswith("latent_grad_norm_")]
        if norms:
            shown["grad"] = f"{norms[0]:.1e}..{norms[-1]:.1e}"
        self.bar.set_postfix({**shown, "tok/s": f"{rate:.0f}"}, refresh=False)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self.bar is not None:
            self.bar.close()


class CleanStop(TrainerCallback):
    """The first Ctrl-C ends the run after the step in progress, with a checkpoint; the second one ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None

    def _ask(self, signum: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._previous)
        tqdm.write("stopping after this step, with a checkpoint (Ctrl-C again stops at once)")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        try:
            self._previous = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread: signals are somebody else's
            self._previous = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self.asked:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
