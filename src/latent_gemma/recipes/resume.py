"""Runs and studies that go on: only as they were begun, and with what is unfinished named when they are stopped."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.errors import RunError
from latent_gemma.launch import is_main_process, process_count
from latent_gemma.model.loading import load_model
from latent_gemma.origin import RECORD, SETTINGS, read_origin, refuse_changes, write_origin
from latent_gemma.ranges import option
from latent_gemma.recipes.stage import Parent, begun, digest, run_record
from latent_gemma.training.checkpoints import list_checkpoints, refuse_damaged
from latent_gemma.training.run import FitResult
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import Resume

#: Options that change nothing of what is trained.
FREE = frozenset(
    {"--out", "--models", "--resume", "--max-hours", "--log-every", "--save-every", "--sample-every"}
    | {"--checkpointing", "--skip-bad", "--report-to"}
    | {"--methods", "--seeds", "--k", "--p"}  # of a study: more of them is more of the same
)
#: What is known for sure -> the options that then need not be the same, for they only lead to it.
LEADS_TO = {
    "weights of --model": ("--model",),
    "rows of --data": (
        *("--data", "--limit", "--holdout", "--steps-format"),
        *("--question-column", "--steps-column", "--answer-column"),
    ),
    "number of examples in a step": ("--batch-size", "--accumulate"),
}


@dataclass(frozen=True)
class Origin:
    """What a run or a study depends on.

    Args:
        recipe: its name.
        config: the recipe's configuration, a dataclass, as it is carried out.
        seed: of the run.
        parent: what it trains from; None for a study, whose stages have their own.
        examples: what it learns from; none likewise.
        step_size: examples in a step, of all processes; 0 likewise.
    """

    recipe: str
    config: Any
    seed: int
    parent: Parent | None = None
    examples: Sequence[Example] = ()
    step_size: int = 0

    def record(self) -> dict[str, Any]:
        """As settings.json and run.json hold it."""
        parent = self.parent or Parent("")
        return {
            **run_record(self.recipe, self.config, self.seed),
            "parent": parent.name,
            "parent_sha256": parent.sha256,
            "parent_commit": parent.commit,
            "data_rows": len(self.examples),
            "data_sha256": digest(self.examples) if self.examples else "",
            "step_size": self.step_size,
        }


def step_size(batch_size: int, accumulate: int) -> int:
    """Examples in an optimiser step, of all processes together."""
    return batch_size * accumulate * process_count()


def _options(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options with their values, groups of them taken apart as on the command line."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _options(value)
        elif option(name) not in FREE:
            yield option(name), value


def _refuse_other(folder: Path, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    compared = []
    try:
        for record in (before, now):
            known = {"weights of --model": record["parent_sha256"], "rows of --data": record["data_sha256"]}
            known["number of examples in a step"] = record["step_size"]
            compared.append({"recipe": record["recipe"], **dict(_options(record["config"])), **known})
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / SETTINGS} cannot be read", "give another --out") from error
    then, here = compared
    if "--engine" in here:
        then.setdefault("--engine", "torch")  # older versions had no other
    for sure, options in LEADS_TO.items():
        if then[sure] == here[sure] and then[sure]:
            for name in options:
                then.pop(name, None)
                here.pop(name, None)
        elif not (then[sure] and here[sure]):  # a hub model that this machine has yet to download
            del then[sure], here[sure]
    refuse_changes(folder, kind, then, here)


def check_origin(folder: Path, kind: str, origin: Origin) -> None:
    """Refuse to go on with what was begun with other settings, from another model or on other data.

    Args:
        folder: of the run or the study, begun or not.
        kind: "a run" or "a study".
        origin: what would go on.

    Raises:
        RunError: naming what differs, as it was and as it is.
    """
    if not is_main_process() or not begun(folder):  # the folder may not be there yet for the others
        return
    if (folder / SETTINGS).is_file():
        _refuse_other(folder, kind, read_origin(folder / SETTINGS), origin.record())
    else:
        print(f"{folder} does not say what it was begun with, as older versions did not; it goes on unchecked")


def begin(folder: Path, origin: Origin) -> None:
    """Write down what a run or a study depends on, unless it has begun already."""
    if is_main_process() and not begun(folder):
        write_origin(folder / SETTINGS, origin.record())


def resumes(run: Path, resume: Resume, origin: Origin) -> bool | None:
    """Whether a run goes on from a checkpoint; what is there has to be this run.

    Args:
        run: the run folder, opened.
        resume: as the user asked.
        origin: of the run that would go on.

    Returns:
        True or False; None if "auto" finds the run finished.

    Raises:
        RunError: if it was begun with other settings, or "yes" finds no checkpoint, or the newest damaged.
    """
    if resume == "no":
        return False
    check_origin(run, "a run", origin)
    if resume == "auto" and (run / RECORD).is_file():
        return None
    if resume == "yes":
        refuse_damaged(run)
    return resume == "yes" or bool(list_checkpoints(run))


def resume_study(folder: Path, resume: Resume, origin: Origin) -> None:
    """Begin a study in a folder, or go on with the one that is there.

    Args:
        folder: of the study, opened.
        resume: as the user asked.
        origin: of the study.

    Raises:
        RunError: if another study is there, or "yes" finds none.
    """
    if resume == "yes" and not begun(folder):
        raise RunError(f"{folder} holds no study to resume", "start it with --resume no, or auto")
    check_origin(folder, "a study", origin)
    begin(folder, origin)


def finished_stage(run: Path) -> tuple[Any, Any, FitResult]:
    """The model, the tokenizer and the result of a stage that is finished."""
    record = read_origin(run / RECORD)
    model, tokenizer = load_model(str(run))
    metrics = read_metrics(run / "metrics.jsonl")
    return model, tokenizer, FitResult(model, metrics, record["seconds"], True, record["steps"], tuple(record["notes"]))


def say_finished(run: Path) -> Path:
    """Say that a run is finished; returns its model directory."""
    if is_main_process():
        print(f"{run} is finished; its model is in {run / 'model'}")
    return run / "model"


def say_stopped(run: Path, result: FitResult) -> Path:
    """Say where a run stopped and how to go on; returns the run folder."""
    if is_main_process():
        print(f"stopped at step {result.steps}; the same command with --resume auto goes on")
    return run


class Stopped(Exception):
    """A study was told to stop while one of its stages trained.

    Args:
        stage: its name.
        result: where it stopped, behind a checkpoint or at its end.
    """

    def __init__(self, stage: str, result: FitResult) -> None:
        super().__init__(f"{stage} at step {result.steps}")


class Unfinished:
    """The stages of a study that are not trained and measured yet; a study that is stopped, or out of time, names them.

        with Unfinished(["words", "COCONUT"]) as unfinished:
            ...                            # Stopped ends the block, Ctrl-C and SIGTERM the process, as they do a run
            unfinished.done("words")

    Args:
        stages: in the order in which they are taken.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.left = list(stages)
        self._before: Any = None

    def done(self, stage: str) -> None:
        """A stage is trained and measured."""
        self.left.remove(stage)

    def _say(self, where: str) -> None:
        if is_main_process():
            print(
                f"stopped{where}; unfinished and not reported: {', '.join(self.left)}; the same command with --resume "
                "auto goes on",
                flush=True,
            )

    def _terminated(self, number: int, frame: Any) -> None:
        self._say("")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def __enter__(self) -> "Unfinished":
        try:
            self._before = signal.signal(signal.SIGTERM, self._terminated)
        except ValueError:  # not the main thread: signals are somebody else's
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if (error is None or isinstance(error, (Stopped, KeyboardInterrupt))) and self.left:
            sys.stdout.flush()
            self._say(f" in {error}" if isinstance(error, Stopped) else "")
        return isinstance(error, Stopped)
