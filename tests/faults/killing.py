"""Trains one run in peace, and the same run again while it is killed over and over; run as a script.

    python killing.py FOLDER SEED KILLS SIGNALS ARGUMENTS...

FOLDER/whole is the run in peace, FOLDER/cut the other one, each `latent-gemma ARGUMENTS --resume auto --out`. Where a
process dies is drawn among all steps, rollouts, evaluations and operations on files. Every process is a fork of this
one, which spares it the imports. Prints how the processes ended, as JSON.
"""

import functools
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trl
from transformers import Trainer

from latent_gemma.cli import main
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.training import states

#: What counts as an event: where it is looked up, its name, what is going on there.
EVENTS = (
    (Trainer, "training_step", "step"),
    (Trainer, "_load_from_checkpoint", "load"),
    (trl.GRPOTrainer, "_generate_and_score_completions", "rollout"),
    (Evaluator, "measure", "evaluation"),
    (states, "save_file", "save"),
    (os, "fsync", "save"),
    (os, "replace", "save"),
    (shutil, "rmtree", "save"),
)


def watch(event: Callable[[str], None]) -> None:
    """Call `event` before and after each of the events."""
    for place, name, kind in EVENTS:
        original = getattr(place, name)

        @functools.wraps(original)
        def watched(*args: Any, _original: Any = original, _kind: str = kind, **kwargs: Any) -> Any:
            event(_kind)
            result = _original(*args, **kwargs)
            event(_kind)
            return result

        setattr(place, name, watched)


def run(arguments: list[str], log: Path, strike: tuple[int, int] | None = None) -> tuple[int, list[str]]:
    """Run the command line in a fork.

    Args:
        arguments: its arguments.
        log: where its output goes.
        strike: at which event it gets which signal.

    Returns:
        Its exit status, or minus the signal that ended it; and the events it came by.
    """
    told = log.with_suffix(".events")
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        events: list[str] = []
        record = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def event(kind: str) -> None:
            os.write(record, f"{kind}\n".encode())
            events.append(kind)
            if strike is not None and len(events) == strike[0]:
                os.kill(os.getpid(), strike[1])

        watch(event)
        os._exit(main(arguments))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.read_text().split()


def drive(folder: Path, seed: int, kills: int, signals: list[int], arguments: list[str]) -> list[Any]:
    """See the module."""
    rng = random.Random(seed)
    code, events = run([*arguments, "--out", str(folder / "whole")], folder / "whole.log")
    ended: list[Any] = [[code, "finished"]]
    command = [*arguments, "--out", str(folder / "cut")]
    # So far into a session that all sessions together cannot finish the run.
    most = len(events) // kills
    while kills:
        strike = (rng.randint(1, most), rng.choice(signals))
        code, events = run(command, folder / "cut.log", strike)
        if len(events) < strike[0]:
            break
        kills -= 1
        ended.append([code, f"{signal.Signals(strike[1]).name} in {events[strike[0] - 1]}"])
    ended.append([run(command, folder / "cut.log")[0], "finished"])
    return ended


if __name__ == "__main__":
    place, chance, count, numbers, *rest = sys.argv[1:]
    print(json.dumps(drive(Path(place), int(chance), int(count), [int(n) for n in numbers.split(",")], rest)))
