"""The report as one HTML file that needs nothing else: no script, no network, light and dark."""

from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from latent_gemma.evaluation.results import EvalReport, Grid
from latent_gemma.files import write_atomically
from latent_gemma.inspection.html_lens import differences, lens
from latent_gemma.inspection.plots import figures as draw_figures
from latent_gemma.inspection.plots import render
from latent_gemma.inspection.select import control_rows, main_rows
from latent_gemma.inspection.tables import CONTROL_HEADINGS, curve_grids, measured_grids, results_grid
from latent_gemma.text.display import escape

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
    "accuracy_over_k": "Lines: accuracy over the number of latent steps.",
    "accuracy_over_p": "Lines: accuracy over the share of the token embedding in what is fed back.",
    "accuracy_over_noise": "Lines: accuracy over noise added to the thoughts.",
    "accuracy_over_kept": "Lines: accuracy over the number of first thoughts kept, the rest another question's.",
    "accuracy_over_stop": "Lines: accuracy over the number of thoughts after which thinking stops.",
    "k_per_answer": "Tables of dots: the latent steps a model took over those the written steps ask for.",
    "training_curves": "Small panels: training curves over steps.",
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
    results = results_grid(report)
    style = files("latent_gemma.inspection").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _choice(report),
        _verdict(report.verdict),
        _section("Results", _table(results, "results") if results.rows else ""),
        *(_section(escape(grid.title), _table(grid, "results")) for grid in (*measured_grids(report), *report.tables)),
        _section("Charts", _charts(report) if figures else ""),
        _section("What the controls replace", _controls(report)),
        _section("Where they differ", differences(report.differences)),
        _section(
            "Curves in numbers",
            "".join(f"<h3>{grid.title}</h3>{_table(grid, 'curve')}" for grid in curve_grids(report)),
        ),
        _section("Thought lens", lens(report.traces)),
        _section("Context", _context(report.context)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(report.title)}</h1>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>\n" if content else ""


def _choice(report: EvalReport) -> str:
    if not report.choice:
        return ""
    return f'<p class="choice"><b>{escape(report.choice)}</b>{_warned(report.reason)}</p>\n'


def _verdict(text: str) -> str:
    if not text:
        return ""
    warn = " warn" if NOT_USED in text else ""
    return f'<p class="verdict{warn}">{_warned(text)}</p>\n'


def _warned(text: str) -> str:
    return escape(text).replace(NOT_USED, f"<strong>{NOT_USED}</strong>")


def _table(grid: Grid, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in grid.header)
    body = ""
    for name, *cells in grid.rows:
        body += f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{_number(cell)}</td>" for cell in cells)}</tr>'
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="note">{escape(grid.note)}</p>'
    )


def _number(cell: str) -> str:
    """A cell with its interval, if it has one, set back."""
    value, bracket, interval = escape(cell).partition(" [")
    return f'{value} <span class="interval">[{interval}</span>' if bracket else value


def _charts(report: EvalReport) -> str:
    charts = []
    texts = FIGURE_TEXTS | {chart.name: f"Lines: {chart.title}." for chart in report.charts}
    for name, figure in draw_figures(report).items():
        # As an image and not inline, so that the ids of one chart cannot meet those of another.
        data = b64encode(render(figure, "svg")).decode("ascii")
        charts.append(f'<figure><img alt="{escape(texts[name])}" src="data:image/svg+xml;base64,{data}"></figure>')
    return "".join(charts)


def _controls(report: EvalReport) -> str:
    measured = {name for main in main_rows(report.rows).values() for name in control_rows(report.rows, main)}
    items = "".join(
        f"<dt>{CONTROL_HEADINGS[name]}</dt><dd>{text}</dd>" for name, text in CONTROLS.items() if name in measured
    )
    note = (
        '<p class="note">A method is said to use its thoughts only if swapped and zeroed thoughts both bring its '
        "accuracy down so far that the 95 % intervals do not overlap. A trained pause, where there is one, tells "
        "whether as many positions without content would do.</p>"
    )
    return f"<dl>{items}</dl>{note}" if items else ""


def _context(context: Mapping[str, str]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in context.items())
    return f'<div class="scroll"><table class="context"><tbody>{rows}</tbody></table></div>' if rows else ""
