"""What Python calls: `train`, `evaluate` and `study` take the options of their verbs and return what was found."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from latent_gemma.errors import ConfigError, LatentGemmaError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.options.measurements import Eval
from latent_gemma.options.stages import Common, Grpo
from latent_gemma.options.study_options import StudyOptions
from latent_gemma.origin import RECORD, read_origin
from latent_gemma.recipes.evaluate import Evaluated, run_eval
from latent_gemma.recipes.grpo import run_grpo
from latent_gemma.recipes.study_verb import run_study_verb
from latent_gemma.recipes.train import Config, run_train
from latent_gemma.training.run_log import METRICS, read_metrics

Options = TypeVar("Options", bound=Common | Eval)


@dataclass(frozen=True)
class Trained:
    """What a stage left in its run folder.

    Args:
        folder: the run folder.
        finished: False where it was stopped before its end; the same call with `resume="auto"` goes on.
        metrics: the entries of metrics.jsonl, each with its step.
        record: run.json: recipe, options, seed, parent, versions, figures; empty where it was stopped.
    """

    folder: Path
    finished: bool
    metrics: list[dict[str, Any]]
    record: dict[str, Any]

    @property
    def model(self) -> str:
        """The folder as the next stage's `model`, an evaluation's `models` and `load_model` take it."""
        return str(self.folder)


def train(options: Config | Grpo, progress: bool = True) -> Trained:
    """Train one stage: the verb that its options belong to, such as `train sft` for `Sft`.

    Args:
        options: of the stage: `Sft`, `Coconut`, `Anneal`, `Pause`, `Internalize`, `Codi` or `Grpo`.
        progress: print what the command prints.

    Returns:
        What it left in `options.out`.

    Raises:
        LatentGemmaError: for anything in the options, the data or the model that cannot be used.
    """
    if not isinstance(options, Common) or isinstance(options, StudyOptions):
        raise ConfigError(f"train takes no {type(options).__name__}", "give Sft, Anneal, Grpo or another stage's")
    options = _with_paths(options)
    with _told(progress):
        if isinstance(options, Grpo):
            run_grpo(options)
        else:
            run_train(options)
    record, metrics = options.out / RECORD, options.out / METRICS
    finished = record.is_file()
    return Trained(
        options.out, finished, read_metrics(metrics) if metrics.is_file() else [],
        read_origin(record) if finished else {},
    )  # fmt: skip


def evaluate(options: Eval, progress: bool = True) -> Evaluated:
    """Measure models on tasks or data with intervals, curves and controls, as the verb `eval` does.

    Args:
        options: what is measured.
        progress: print what the command prints.

    Returns:
        The reports, and the folder they were written to.

    Raises:
        LatentGemmaError: for anything in the options, the data or a model that cannot be used.
    """
    with _told(progress):
        return run_eval(_with_paths(options))


def study(options: StudyOptions, progress: bool = True) -> EvalReport:
    """Train and measure every method from one base on one data set with one budget, as the verb `study` does.

    Args:
        options: what is compared.
        progress: print what the command prints.

    Returns:
        The report, of several seeds the one over all, of the methods that are finished.

    Raises:
        LatentGemmaError: for anything in the options, the data or the base that cannot be used, and where the study was
            stopped before any method was finished.
    """
    with _told(progress):
        report = run_study_verb(_with_paths(options))
    if report is None:
        raise LatentGemmaError(f"{options.out} was stopped before a method was finished", 'go on with resume="auto"')
    return report


def _with_paths(options: Options) -> Options:
    """Folders that were given as text, which a notebook does and no type checker would see there."""
    return options if options.out is None else replace(options, out=Path(options.out))


@contextlib.contextmanager
def _told(progress: bool) -> Iterator[None]:
    if progress:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
