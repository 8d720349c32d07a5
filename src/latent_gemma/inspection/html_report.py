"""The report as one HTML file that needs nothing else: no script, no network, light and dark."""

from base64 import b64encode
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import write_atomically
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.plots import figures as draw_figures
from latent_gemma.inspection.plots import render
from latent_gemma.inspection.select import control_rows, curves, main_rows
from latent_gemma.inspection.tables import CONTROL_HEADINGS, curve_grids, measured_grids, results_grid
from latent_gemma.text.display import displayable, visible

#: Should anything slip through the escaping, the browser still loads and runs nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NOT_USED = "not using its thoughts"
CONTROLS = {
    "zero": "Every thought is replaced by zeros. A model that reasons in its thoughts must get worse.",
    "noise": "Every thought is replaced by random numbers of the same norm: right size, no content.",
    "swap": "Every question gets the thoughts of another question: real thoughts, wrong content.",
    "permute": "The thoughts of a question in another order.",
    "pause": "Every thought is replaced by the plain embedding of the thought token: time, but nothing to carry on.",
    "k0": "The same model answers at once, without any latent step.",
}
FIGURE_TEXTS = {
    "controls": "Bars: accuracy of each latent method with intact thoughts and under each control.",
    "k_per_answer": "Tables: the latent steps a model took over those the written steps ask for.",
    "training_curves": "Panels: training curves over steps, one line a method.",
}


def write_html(report: EvalReport, path: str | Path, figures: bool = True) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        report: the report.
        path: the file; its folder is made if missing.
        figures: draw the charts; without them the file is small and written at once.
    """
    write_atomically(Path(path), render_html(report, figures))


def render_html(report: EvalReport, figures: bool = True) -> str:
    """The report as one self-contained HTML page; everything in it that comes from outside is escaped.

    Args:
        report: the report.
        figures: draw the charts.

    Returns:
        The page. A section without data is left out.
    """
    pages = Environment(
        loader=PackageLoader("latent_gemma", "inspection"), autoescape=True, undefined=StrictUndefined,
        finalize=_shown, keep_trailing_newline=True,
    )  # fmt: skip
    pages.globals["zip"] = zip
    pages.filters |= {"percent": percent, "visible": visible, "rounded": _rounded}
    style, _, _ = pages.loader.get_source(pages, "report.css")  # type: ignore[union-attr]
    texts = FIGURE_TEXTS | {curve.name: f"{curve.title}." for curve in curves(report.rows)}
    texts |= {chart.name: f"{chart.title}." for chart in report.charts}
    # As images and not inline, so that the ids of one chart cannot meet those of another.
    charts = [
        (texts[name], b64encode(render(figure, "svg")).decode("ascii"))
        for name, figure in (draw_figures(report) if figures else {}).items()
    ]
    measured = {name for main in main_rows(report.rows).values() for name in control_rows(report.rows, main)}
    grids = (results_grid(report), *measured_grids(report), *report.tables)
    return pages.get_template("report.html.j2").render(
        report=report, policy=POLICY, style=Markup(style), not_used=NOT_USED, charts=charts,
        grids=[grid for grid in grids if grid.rows], curves=curve_grids(report),
        controls={CONTROL_HEADINGS[name]: text for name, text in CONTROLS.items() if name in measured},
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """What a template puts out: text as `displayable`, unless it is of the template itself."""
    return displayable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _rounded(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) and abs(value) < 1000 else f"{value:.0f}"
