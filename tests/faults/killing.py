"""Trains runs in peace, and each again while it is killed over and over; run as a script.

    python killing.py SCENARIOS

SCENARIOS is a JSON file: name -> {"arguments", "strikes", "seed"}. In the folder NAME beside it, `whole` is the run in
peace and `cut` the other one, each `latent-gemma ARGUMENTS --out`, or a study where ARGUMENTS begin with its script. A
strike is a kind of event (step, rollout, evaluation, save, or null to have it drawn) and a signal; which of the events
it hits is drawn. Every process is a fork of this one, which spares it the imports. How the processes ended, and what
was finished then, is written to `ends.json` there.
"""

import functools
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401 (an import that every fork would have to make)
import trl
from transformers import Trainer

from latent_gemma.cli import VERBS, main
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.recipes import ending
from latent_gemma.training import states

#: What counts as an event: where it is looked up, its name, what is going on there.
EVENTS = (
    (Trainer, "training_step", "step"),
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


def run(arguments: list[str], log: Path, strike: tuple[str, int, int] | None = None) -> tuple[int, list[str]]:
    """Run the command line in a fork.

    Args:
        arguments: its arguments.
        log: where its output goes.
        strike: at which kind of event, after how many of it, it gets which signal.

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
            if strike is not None and kind == strike[0] and events.count(kind) == strike[1]:
                os.kill(os.getpid(), strike[2])

        watch(event)
        os._exit(main(arguments))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.read_text().split()


def drive(folder: Path, arguments: list[str], strikes: list[tuple[str | None, int]], seed: int) -> list[Any]:
    """One scenario; returns exit status and cause of each process, and what was finished behind it."""
    folder.mkdir()
    rng = random.Random(seed)
    code, events = run([*arguments, "--out", str(folder / "whole")], folder / "whole.log")
    ends: list[Any] = [[code, "end", finished(folder / "whole")]]
    command = [*arguments, "--out", str(folder / "cut")]
    met = events
    for chosen, number in strikes:
        # of what the session before came by: in one that has only to be measured no step can be hit
        kind = chosen or rng.choice(sorted(set(met)))
        # so early in its session that all sessions together do not finish the run
        at = rng.randint(1, max(1, events.count(kind) // len(strikes)))
        code, met = run(command, folder / "cut.log", (kind, at, number))
        cause = f"{signal.Signals(number).name} in {kind}" if met.count(kind) >= at else "end"
        ends.append([code, cause, finished(folder / "cut")])
    ends.append([run(command, folder / "cut.log")[0], "end", finished(folder / "cut")])
    return ends


def finished(folder: Path) -> dict[str, int]:
    """What is finished: the steps of a folder's runs, and its report (0 steps)."""
    records = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("run.json")}
    found = {name: record["steps"] for name, record in records.items() if "steps" in record}  # a study has none
    return found | ({"report": 0} if (folder / "report.json").exists() else {})


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for module in {VERBS[verb].recipe for verb in ("train sft", "train grpo", "demo")}:
        importlib.import_module(f"latent_gemma.{module}")
    ending._right = lambda *args: ""  # of a run that is finished, so that no strike there could cut it
    gc.freeze()  # what all forks share
    for name, scenario in json.loads(place.read_text()).items():
        ends = drive(place.parent / name, **scenario)
        (place.parent / name / "ends.json").write_text(json.dumps(ends))
