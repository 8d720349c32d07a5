"""The studies of a folder in one table.

results/README.md, of all reports there:

    python studies/table.py
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from shared import command

from latent_gemma.errors import RunError
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid
from latent_gemma.files import write_atomically
from latent_gemma.inspection.numbers import percent, with_interval
from latent_gemma.inspection.select import CONTROL_NAMES, control_rows, main_rows
from latent_gemma.inspection.tables import ABSENT, to_markdown

#: Figures of a row that the table shows, and their headings.
FIGURES = {"fuzzy_0_100": "fuzzy", "bleu_0_100": "BLEU", "bertscore_f1": "BERTScore F1"}
CONTEXT = ("task", "data", "model", "time", "machine", "seed", "torch", "transformers")


@dataclass(frozen=True)
class Table:
    """Write README.md of a folder of studies: every method with its controls, every further metric, time and versions.

    Args:
        folder: holds one folder a study.
    """

    folder: Path = Path("results")


def run_table(config: Table) -> Path:
    """Read the studies' reports and write one table of each kind.

    Args:
        config: see `Table`.

    Returns:
        The file.

    Raises:
        RunError: if there is no study, or a report cannot be read.
    """
    found = {path.parent.name: _load(path) for path in sorted(config.folder.glob("*/report.json"))}
    if not found:
        raise RunError(f"{config.folder} holds no study", "write one with python studies/prosqa.py")
    note = "Accuracy in % with its 95 % Wilson interval; then with the thoughts replaced or left out."
    grids = [
        Grid(
            "Accuracy and controls",
            ("study", "method", "accuracy", *CONTROL_NAMES.values(), "n"),
            _methods(found),
            note,
        )
    ]
    if metrics := _metrics(found):
        note = "Fuzzy and BLEU run to 100, BERTScore F1 to 1; what was not measured has no number."
        grids.append(Grid("Further metrics", ("study", "rows", *FIGURES.values()), metrics, note))
    grids.append(
        Grid(
            "How they were made",
            ("study", *CONTEXT),
            tuple((name, *(context.get(key, ABSENT) for key in CONTEXT)) for name, (_, context) in found.items()),
            "Each folder has the whole report: report.md, report.json, charts.",
        )
    )
    said = " ".join(f"{name}: {context['verdict']}" for name, (_, context) in found.items())
    page = config.folder / "README.md"
    write_atomically(page, to_markdown(EvalReport("Results", said, (), tables=tuple(grids))))
    Console().print(f"wrote {page}", markup=False)
    return page


def _load(path: Path) -> tuple[list[EvalRow], dict[str, str]]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = [EvalRow.from_dict(row) for row in data["rows"]]
        return rows, {**data["context"], "verdict": data["verdict"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no report of a study", "write it again") from error


def _methods(found: dict[str, tuple[list[EvalRow], dict[str, str]]]) -> tuple[tuple[str, ...], ...]:
    lines = []
    for name, (rows, _) in found.items():
        for label, main in main_rows(rows).items():
            controls = control_rows(rows, main)
            cells = (percent(controls[key].accuracy) if key in controls else ABSENT for key in CONTROL_NAMES)
            lines.append((name, label, with_interval(main), *cells, str(main.total)))
    return tuple(lines)


def _metrics(found: dict[str, tuple[list[EvalRow], dict[str, str]]]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (name, label, *(_number(main.figures.get(key)) for key in FIGURES))
        for name, (rows, _) in found.items()
        for label, main in main_rows(rows).items()
        if main.figures
    )


def _number(value: float | str | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else ABSENT


if __name__ == "__main__":
    sys.exit(command(Table, run_table))
