"""`latent-gemma compare`: evaluations of the same questions in one report."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from latent_gemma.errors import ConfigError, RunError
from latent_gemma.evaluation.items import FILE, Item, read_items
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.inspection.comparison import choice, cost_charts, differences_grid, paired_grid
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import further_tables, metrics_grid, results_table
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.write import write_report
from latent_gemma.recipes.stage import next_free, run_folder
from latent_gemma.text.display import displayable


@dataclass(frozen=True)
class Compare:
    """Hold evaluations of the same questions side by side: accuracy against cost, paired tests, where they differ.

    Args:
        runs: folders that `eval` wrote; of several tasks, one task's folder each.
        out: folder of the report; None takes the next free runs/compare-N.
    """

    runs: Positional[tuple[Path, ...]]
    out: Path | None = None


def run_compare(config: Compare) -> Path:
    """Read evaluations and write one report.

    Args:
        config: which.

    Returns:
        The path of the HTML report.

    Raises:
        ConfigError: for no run.
        RunError: if a folder holds no evaluation, or the evaluations asked different questions.
    """
    if not config.runs:
        raise ConfigError("there is nothing to compare", "name folders that eval wrote: latent-gemma compare A B")
    loaded = [_load(run) for run in config.runs]
    taken = [label for rows, _, _ in loaded for label in main_rows(rows)]
    rows: list[EvalRow] = []
    answers: dict[str, list[Item]] = {}
    context: dict[str, str] = {}
    for run, (own, items, said) in zip(config.runs, loaded, strict=True):
        names = {label: label if taken.count(label) == 1 else f"{run.name}: {label}" for label in main_rows(own)}
        rows += [replace(row, label=names[row.label]) for row in own]
        for label, main in main_rows(own).items():
            setting = (label, main.k, main.p, main.control)
            answers[names[label]] = [item for item in items if (item.label, item.k, item.p, item.control) == setting]
        context |= {f"{run.name}: {key}": value for key, value in said.items() if key in ("data", "seed", "machine")}
    _check_same_questions(answers)
    mains = main_rows(rows)
    tables = (*metrics_grid(rows), paired_grid(answers), differences_grid(answers))
    findings = verdict(rows)
    report = EvalReport(
        title=f"{len(mains)} methods on the same {len(next(iter(answers.values())))} questions",
        verdict=f"{choice(mains, answers)} {findings if any(row.k for row in mains.values()) else ''}".strip(),
        rows=tuple(rows),
        context=context,
        tables=tuple(table for table in tables if table is not None),
        charts=cost_charts(mains),
    )
    console = Console()
    with run_folder(config.out or next_free("compare"), resume=False) as out:
        console.print(results_table(report))
        for table in further_tables(report):
            console.print(table)
        console.print(displayable(report.verdict), markup=False)
        page = write_report(report, out)
    console.print(f"report: {page}", markup=False)
    return page


def _load(run: Path) -> tuple[list[EvalRow], list[Item], dict[str, str]]:
    try:
        data = json.loads((run / "report.json").read_text(encoding="utf-8"))
        rows = [EvalRow(**{key: value for key, value in row.items() if key != "accuracy"}) for row in data["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run} holds no report of an evaluation", "give a folder that eval wrote") from error
    return rows, read_items(run / FILE), data["context"]


def _check_same_questions(answers: dict[str, list[Item]]) -> None:
    (first, *others) = answers
    asked = [item.question for item in answers[first]]
    for label in others:
        given = [item.question for item in answers[label]]
        if given != asked:
            raise RunError(
                f"{first} and {label} were asked different questions ({len(asked)} and {len(given)})",
                "evaluate them on the same data with the same --limit and --seed",
            )
