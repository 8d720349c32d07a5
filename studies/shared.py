"""What the studies share: their command line, their folders, and a study from training to report."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from latent_gemma.cli import quieten
from latent_gemma.errors import LatentGemmaError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.write import publish
from latent_gemma.recipes.resume import Origin, Unfinished, resume_study
from latent_gemma.recipes.stage import run_folder
from latent_gemma.recipes.study import Study, run_study
from latent_gemma.text.display import displayable


def command(config_class: type, run: Callable[[Any], object], args: Sequence[str] | None = None) -> int:
    """Run a study as a script.

    Args:
        config_class: its configuration, a dataclass whose fields are the options.
        run: what is done with it.
        args: the command line without the script's name; None takes the process's.

    Returns:
        0 when it worked, 2 when what was asked for cannot be done (told in one line), 130 after Ctrl-C.
    """
    quieten()
    try:
        run(tyro.cli(config_class, args=args))
    except LatentGemmaError as error:
        print(displayable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def models_folder(out: Path, models: Path | None) -> Path:
    """Where a study's models go: never beside the report, which may be kept in git."""
    return models or Path("runs") / f"results-{out.name}"


def run_results(study: Study, config: Any, console: Console, started_s: float | None = None) -> EvalReport | None:
    """Run a study and write its report into one folder, its models into another.

    Args:
        study: which.
        config: the recipe's configuration, with `out`, `models`, `seed`, `scale`, `max_hours` and `resume`.
        console: where it prints.
        started_s: as `run_study`.

    Returns:
        The report, of the methods that are finished; None if the study was stopped, or none is.

    Raises:
        RunError: if a folder is not empty, or holds a study with other settings.
    """
    models, report, resume = models_folder(config.out, config.models), None, config.resume
    study = replace(study, settings=replace(study.settings, max_hours=config.max_hours))
    with (
        run_folder(config.out, resume != "no") as out,
        run_folder(models, resume != "no"),
        Unfinished(study.labels([config.seed])) as unfinished,
    ):
        resume_study(models, resume, Origin(study.name, config, config.seed))
        found = run_study(study, {config.seed: models}, config.scale, unfinished, console, started_s)
        if found:
            report = found[config.seed].report
            publish(report, out, console)
    return report
