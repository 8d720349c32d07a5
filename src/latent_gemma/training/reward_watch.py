"""What a person sees of a GRPO run: sample completions, and a sentence where the rewards teach nothing."""

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from latent_gemma.text.columns import Columns, wrapped
from latent_gemma.training.callbacks import append_lines, keep_lines
from latent_gemma.training.rewarding import RewardBook

#: What a run's sample completions are kept in.
SAMPLES = "samples.jsonl"
#: The share of groups without spread that is called high, over this many log entries.
HIGH_ZERO_SPREAD, ENTRIES = 0.8, 5
SHOWN = 4


def describe_rewards(logs: dict[str, Any]) -> dict[str, str]:
    """What the bar of a GRPO run shows: reward, KL, completion length, groups without spread."""
    shown = {"reward": f"{logs['reward']:.2f}", "len": f"{logs['completions/mean_length']:.0f}"}
    shown["flat groups"] = f"{logs['frac_reward_zero_std']:.0%}"
    return shown | ({"kl": f"{logs['kl']:.3f}"} if "kl" in logs else {})


class SampleTable(TrainerCallback):
    """Every n steps, the last completions with their rewards: a few on the terminal, all in samples.jsonl.

    Args:
        book: what scored them.
        every: steps between two tables; 0 for none.
        path: the file.
    """

    def __init__(self, book: RewardBook, every: int, path: Path) -> None:
        self.book, self.every, self.path = book, every, path

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if state.is_world_process_zero:
            keep_lines(self.path, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        if not self.every or state.global_step % self.every or not state.is_world_process_zero:
            return
        append_lines(self.path, [{"step": state.global_step, **vars(sample)} for sample in self.book.last])
        rows = [
            (sample.question, sample.completion, *(f"{sample.scores[name]:g}" for name in self.book.names))
            for sample in self.book.last[:SHOWN]
        ]
        header = ("question", "completion", *(name.replace("_", " ") for name in self.book.names))
        with tqdm.external_write_mode(file=sys.stdout):
            Console().print(Columns(header, rows, f"step {state.global_step}"))


class RewardWatch(TrainerCallback):
    """Says so when the groups have no spread, and when the rewards stayed flat."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        self.entries = [entry for entry in state.log_history if "frac_reward_zero_std" in entry]

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs: Any):
        if not logs or "frac_reward_zero_std" not in logs:
            return
        self.entries.append(logs)
        recent = [entry["frac_reward_zero_std"] for entry in self.entries[-ENTRIES:]]
        if len(recent) == ENTRIES and fmean(recent) >= HIGH_ZERO_SPREAD and not self.notes:
            self._say(
                f"In {fmean(recent):.0%} of the groups all completions got the same reward, and such a group teaches "
                "nothing. Raise --temperature or --num-generations, take questions that are neither too easy nor too "
                "hard for this model, or start from an SFT model that is right now and then."
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        third = len(self.entries) // 3
        if third < 2:  # too few to tell a trend from noise
            return
        first, last = (fmean(e["reward"] for e in part) for part in (self.entries[:third], self.entries[-third:]))
        spread = fmean(entry["reward_std"] for entry in self.entries)
        if last - first <= 0.05 * spread:
            self._say(
                f"The reward stayed flat: {first:.2f} in the first third of the run, {last:.2f} in the last, with a "
                f"spread of {spread:.2f}. GRPO can only strengthen what the model already does sometimes."
            )

    def _say(self, note: str) -> None:
        self.notes.append(note)
        tqdm.write(wrapped(note))
