"""What a run tells while it goes on: an entry a line in metrics.jsonl, and a bar on the terminal; of any engine."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from tqdm import tqdm

from latent_gemma.files import write_atomically

METRICS = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The entries of a metrics file; a last line that was cut off by a kill is left out."""
    entries = []
    # Split at "\n" alone: a completion may hold other characters that end a line. A cut may fall inside of a character.
    for line in path.read_bytes().split(b"\n"):
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def append_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Append entries, one JSON object a line, and wait until they are on the disk: a checkpoint may rely on them."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
        file.flush()
        os.fsync(file.fileno())


def keep_lines(path: Path, step: int) -> None:
    """Drop what a run wrote behind the step it goes on from, and the summary of the session that ended there."""
    if path.exists():
        kept = [line for line in read_metrics(path) if line["step"] <= step and "train_runtime" not in line]
        write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def describe_curriculum(logs: dict[str, Any]) -> dict[str, str]:
    """What the bar of a curriculum shows: loss; where it thinks p and K; its stage; gradient norms of first and last
    latent step."""
    shown = {"loss": f"{logs['loss']:.3f}"}
    if logs["K"]:
        shown |= {"p": f"{logs['p']:.2f}", "K": str(logs["K"])}
    if logs["stage"]:
        shown["stage"] = str(logs["stage"])
    norms = [value for name, value in logs.items() if name.startswith("latent_grad_norm_")]
    return shown | ({"grad": f"{norms[0]:.1e}..{norms[-1]:.1e}"} if norms else {})


def describe_rewards(logs: dict[str, Any]) -> dict[str, str]:
    """What the bar of a GRPO run shows: reward, KL, completion length, groups without spread."""
    shown = {"reward": f"{logs['reward']:.2f}", "len": f"{logs['completions/mean_length']:.0f}"}
    shown["flat groups"] = f"{logs['frac_reward_zero_std']:.0%}"
    return shown | ({"kl": f"{logs['kl']:.3f}"} if "kl" in logs else {})


class RunLog:
    """The metrics file of a run, and one line no longer than the terminal: how far, time left, what `describe` makes of
    the last entry as far as it fits, tokens/s, and a bar in the room that is left.

    Args:
        folder: the run folder.
        title: of the bar.
        describe: from a log entry that holds a loss to what is shown, what matters most first.
        tokens: the entry's key that counts tokens since the start of the run.
    """

    def __init__(
        self, folder: Path, title: str, describe: Callable[[dict[str, Any]], dict[str, str]], tokens: str
    ) -> None:
        self.path, self.title, self.describe, self.tokens = folder / METRICS, title, describe, tokens
        self.bar: tqdm | None = None
        self.began_s, self.before, self.fixed = time.monotonic(), 0.0, 0
        self.earlier_s = 0.0  #: What the sessions before took for the steps that this one goes on from.

    def begin(self, done: int, planned: int) -> None:
        """The session begins behind step `done`; entries of later ones are dropped."""
        self.began_s = time.monotonic()
        keep_lines(self.path, done)
        entries = read_metrics(self.path) if self.path.exists() else []
        self.before = max((entry[self.tokens] for entry in entries if self.tokens in entry), default=0.0)
        self.earlier_s = entries[-1]["seconds"] if entries else 0.0
        self.fixed = cell_len(f"{self.title}: {planned}/{planned}, 0:00:00 left ||")
        # In a file or a pipe every refresh is another line: a few are enough.
        often_s, bar = (0.2, " {bar}") if sys.stderr.isatty() else (30.0, "")
        self.bar = tqdm(
            total=planned,
            initial=done,
            desc=self.title,
            bar_format="{desc}: {n_fmt}/{total_fmt}, {remaining} left{postfix}" + bar,
            dynamic_ncols=True,
            mininterval=often_s,
        )

    def step_ended(self, done: int) -> None:
        """So many steps of the run are done."""
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def write(self, done: int, logs: dict[str, Any]) -> None:
        """Add an entry of the step just done."""
        # JSON has no word for what is not finite
        finite = {key: value for key, value in logs.items() if not isinstance(value, float) or math.isfinite(value)}
        seconds = time.monotonic() - self.began_s
        append_lines(self.path, [{"step": done, "seconds": round(self.earlier_s + seconds, 3), **finite}])
        if self.bar is not None and self.tokens in logs:  # a step without rollouts of its own counts none
            rate = (logs[self.tokens] - self.before) / max(1e-9, seconds)
            shown, room = "", shutil.get_terminal_size().columns - self.fixed
            for name, value in {**self.describe(logs), "tok/s": f"{rate:.0f}"}.items():
                if len(shown) + len(f", {name} {value}") <= room:
                    shown += f", {name} {value}"
            self.bar.set_postfix_str(shown.removeprefix(", "), refresh=False)

    def end(self) -> None:
        """The session ends."""
        if self.bar is not None:
            self.bar.close()
