"""What the studies under `latent-gemma results` share: their folders, and how their findings are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.write import publish
from latent_gemma.recipes.resuming import Origin, Unfinished, resume_study
from latent_gemma.recipes.stage import run_folder
from latent_gemma.recipes.study import Study, run_study


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
        The report; None if the study was stopped.

    Raises:
        RunError: if a folder is not empty, or holds a study with other settings.
    """
    models, report, resume = models_folder(config.out, config.models), None, config.resume
    study = replace(study, settings=replace(study.settings, max_hours=config.max_hours))
    with (
        run_folder(config.out, resume != "no") as out,
        run_folder(models, resume != "no"),
        Unfinished([method.label for method in study.methods]) as unfinished,
    ):
        resume_study(models, resume, Origin(study.name, config, config.seed))
        report = run_study(study, models, config.seed, config.scale, unfinished, console, started_s)
        publish(report, out, console)
    return report
