"""What the studies under `latent-gemma results` share: their folders, and how their findings are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.tables import further_tables, results_table
from latent_gemma.inspection.write import write_report
from latent_gemma.recipes.resuming import Origin, Unfinished, resume_study
from latent_gemma.recipes.stage import run_folder
from latent_gemma.recipes.study import Study, run_study


def models_folder(out: Path, models: Path | None) -> Path:
    """Where a study's models go: never beside the report, which may be kept in git."""
    return models or Path("runs") / f"results-{out.name}"


def show(report: EvalReport, out: Path, console: Console) -> None:
    """Write a report, print its tables and what was found.

    Args:
        report: the report.
        out: its folder.
        console: where it prints.
    """
    page = write_report(report, out)
    console.print(results_table(report))
    for table in further_tables(report):
        console.print(table)
    console.print(report.verdict, markup=False)
    console.print(f"{report.context['time']}; report: {page}", markup=False)


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
        show(report, out, console)
    return report
