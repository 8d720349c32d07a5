"""What a person sees of a GRPO run: sample completions, and a sentence where the rewards teach nothing."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from latent_gemma.text.display import displayable
from latent_gemma.training.rewarding import Sample
from latent_gemma.training.run_log import append_lines, keep_lines

#: What a run's sample completions are kept in.
SAMPLES = "samples.jsonl"
#: The share of groups without spread that is called high, over this many log entries.
HIGH_ZERO_SPREAD, ENTRIES = 0.8, 5
SHOWN = 4


class SampleTable:
    """Every n steps, the last completions with their rewards: a few on the terminal, all in samples.jsonl.

    Args:
        every: steps between two tables; 0 for none.
        folder: the run folder.
    """

    def __init__(self, every: int, folder: Path) -> None:
        self.every, self.path = every, folder / SAMPLES

    def begin(self, done: int) -> None:
        """The session begins behind step `done`; samples of later ones are dropped."""
        keep_lines(self.path, done)

    def step_ended(self, done: int, samples: Sequence[Sample]) -> None:
        """So many steps are done, and these are the last completions."""
        if not self.every or done % self.every:
            return
        append_lines(self.path, [{"step": done, **vars(sample)} for sample in samples])
        names = samples[0].scores if samples else {}
        table = Table("question", title=f"step {done}", title_justify="left")
        table.add_column("completion", overflow="fold", min_width=30)
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        for sample in samples[:SHOWN]:
            scores = [f"{score:g}" for score in sample.scores.values()]
            table.add_row(Text(displayable(sample.question)), Text(displayable(sample.completion)), *scores)
        with tqdm.external_write_mode(file=sys.stdout):
            Console().print(table)


class RewardWatch:
    """Says so when the groups have no spread, and when the rewards stayed flat; `notes` holds what it said."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def begin(self, entries: Iterable[dict[str, Any]]) -> None:
        """The session begins behind these log entries."""
        self.entries = [entry for entry in entries if "frac_reward_zero_std" in entry]

    def write(self, logs: dict[str, Any]) -> None:
        """A log entry of the step just done."""
        if "frac_reward_zero_std" not in logs:
            return
        self.entries.append(logs)
        recent = [entry["frac_reward_zero_std"] for entry in self.entries[-ENTRIES:]]
        if len(recent) == ENTRIES and fmean(recent) >= HIGH_ZERO_SPREAD and not self.notes:
            self._say(
                f"In {fmean(recent):.0%} of the groups all completions got the same reward, and such a group teaches "
                "nothing. Raise --temperature or --num-generations, take questions that are neither too easy nor too "
                "hard for this model, or start from an SFT model that is right now and then."
            )

    def end(self) -> None:
        """The session ends."""
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
        tqdm.write(note)
