"""A report as files: JSON for programs, Markdown and HTML for people, PNG for slides."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import write_atomically
from latent_gemma.inspection.html_report import write_html
from latent_gemma.inspection.plots import write_plots
from latent_gemma.inspection.tables import further_tables, results_table, to_markdown
from latent_gemma.text.display import displayable


def write_report(report: EvalReport, folder: str | Path) -> Path:
    """Write report.json, report.md, report.html and the charts; each file appears whole or not at all.

    Args:
        report: the report.
        folder: where; made if missing.

    Returns:
        The path of the HTML file.
    """
    folder = Path(folder)
    data = json.dumps(_finite(report.to_dict()), ensure_ascii=False, indent=2, allow_nan=False)
    write_atomically(folder / "report.json", data + "\n")
    write_atomically(folder / "report.md", to_markdown(report))
    write_plots(report, folder)
    page = folder / "report.html"
    write_html(report, page)
    return page


def publish(report: EvalReport, folder: str | Path, console: Console) -> Path:
    """Write a report, and print its tables, what was found, and where it lies.

    Args:
        report: the report.
        folder: see `write_report`.
        console: where it prints.

    Returns:
        The path of the HTML file.
    """
    page = write_report(report, folder)
    for table in (results_table(report), *further_tables(report)):
        console.print(table)
    console.print()
    console.print(displayable(report.verdict), markup=False)
    if report.choice:
        console.print(displayable(f"{report.choice}. {report.reason}"), markup=False, style="bold")
    took = f"{report.context['time']}; " if "time" in report.context else ""
    console.print(f"{took}report: {page}", markup=False)
    return page


def _finite(data: Any) -> Any:
    """The same data with NaN and infinities as None: JSON has no word for them and other readers refuse the file."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data
