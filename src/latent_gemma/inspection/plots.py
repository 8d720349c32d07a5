"""Charts of a report: accuracy over K, p and controls, K per answer, the training curves, and its own line charts.

Figures are built without pyplot, so none stays open behind the caller's back.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, PercentFormatter

from latent_gemma.evaluation.results import Chart, EvalReport, EvalRow
from latent_gemma.files import write_atomically
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.select import (
    CONTROL_NAMES,
    Curve,
    control_rows,
    curves,
    main_rows,
    reference_rows,
)
from latent_gemma.text.display import displayable

DPI = 150
INK, FAINT, GRID = "#1f2933", "#66727f", "#e4e8ec"
#: Methods: colours that stay apart for colour-blind readers; markers repeat what they say.
COLOURS = ("#1f5a96", "#c8553d", "#2a8c7a", "#8a5a9e", "#b8860b", "#4f5d75")
MARKERS = ("o", "s", "D", "^", "v", "P")
#: What stands in the thought positions; the model's own thoughts are the one saturated colour.
BAR_COLOURS = {
    "intact": "#1f5a96",
    "zero": "#d9843b",
    "noise": "#e3c16f",
    "swap": "#a4627f",
    "permute": "#7d8fb8",
    "pause": "#79b3a4",
    "k0": "#aab4be",
}
#: The first always exists, the others hold Japanese on the usual systems.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic")


@contextmanager
def _style() -> Iterator[None]:
    """Our settings while a figure is built or written; the caller's come back afterwards."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    settings: Any = {
        "font.family": [name for name in FONTS if name in installed],
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,  # a label with two dollar signs is no formula
        "axes.edgecolor": "#b9c2cb",
        "axes.labelcolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": GRID,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "svg.fonttype": "none",  # text stays text: small, sharp and in the reader's own fonts
        "svg.hashsalt": "latent-gemma",  # the same figure gives the same bytes
    }
    with matplotlib.rc_context(settings):
        yield


def plot_accuracy(report: EvalReport, curve: Curve) -> Figure:
    """Accuracy over one setting, such as the number of latent steps, one line per label.

    Args:
        report: the report.
        curve: one of its `curves`.

    Returns:
        Lines with 95 % Wilson intervals as bands; as dashed lines labels without latent steps, and over K what models
        reach that choose it.
    """
    # A label keeps its colour across charts.
    order = [label for label, main in main_rows(report.rows).items() if main.k]
    values = sorted({at for points in curve.lines.values() for at, _ in points})
    with _style():
        figure, axes = _accuracy_axes(curve.title)
        ends = []
        for label, points in curve.lines.items():
            index = order.index(label) % len(COLOURS)
            x, y = [at for at, _ in points], [100 * row.accuracy for _, row in points]
            bounds = [100 * row.low for _, row in points], [100 * row.high for _, row in points]
            axes.fill_between(x, *bounds, color=COLOURS[index], alpha=0.15, linewidth=0)
            axes.plot(
                x, y, color=COLOURS[index], marker=MARKERS[index], markersize=5.5, markeredgecolor="white",
                linewidth=2, clip_on=False, zorder=3,
            )  # fmt: skip
            ends.append((y[-1], label, COLOURS[index]))
            if label in curve.chosen:
                own = 100 * curve.chosen[label].accuracy
                axes.axhline(own, color=COLOURS[index], linewidth=1.4, linestyle=(0, (4, 3)), zorder=2)
                ends.append((own, f"{label}, own K", COLOURS[index]))
        _draw_references(axes, report, ends)
        margin = 0.03 * (values[-1] - values[0])
        axes.set_xlim(values[0] - margin, values[-1] + margin)
        axes.xaxis.set_major_locator(FixedLocator(values) if len(values) <= 12 else MaxNLocator(10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(curve.axis, labelpad=8)
    return figure


def plot_controls(report: EvalReport) -> Figure:
    """Accuracy with the thoughts left alone, replaced and left out, one group of bars per label.

    Args:
        report: the report.

    Returns:
        Bars with 95 % Wilson intervals, in the order intact, zeroed, noise, swapped, permuted, pause, K=0.

    Raises:
        ValueError: if no label was measured under a control.
    """
    groups = _controlled(report)
    if not groups:
        raise ValueError("no label of this report was measured under a control")
    shown = [name for name in BAR_COLOURS if any(name in group for group in groups.values())]
    with _style():
        figure, axes = _accuracy_axes("Accuracy when the thoughts are replaced", width=max(8.0, 2.2 * len(groups) + 2))
        axes.set_position((0.075, 0.19, 0.72, 0.64))  # beside it the names of references
        width = 0.84 / len(shown)
        for index, name in enumerate(shown):
            at = [i for i, group in enumerate(groups.values()) if name in group]
            rows = [group[name] for group in groups.values() if name in group]
            x = [i + (index - (len(shown) - 1) / 2) * width for i in at]
            heights = [100 * row.accuracy for row in rows]
            # Rounding must not make an error bar negative.
            below = [max(0.0, height - 100 * row.low) for height, row in zip(heights, rows, strict=True)]
            above = [max(0.0, 100 * row.high - height) for height, row in zip(heights, rows, strict=True)]
            axes.bar(x, heights, 0.9 * width, color=BAR_COLOURS[name], label=CONTROL_NAMES.get(name, name))
            axes.errorbar(x, heights, (below, above), fmt="none", ecolor=INK, elinewidth=1, capsize=2.5, capthick=1)
            for position, row in zip(x, rows, strict=True):
                axes.annotate(
                    percent(row.accuracy), (position, 100 * row.high), (0, 3), textcoords="offset points",
                    ha="center", fontsize=8, fontweight="bold" if name == "intact" else "normal", annotation_clip=False,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                )  # fmt: skip
        _draw_references(axes, report)
        axes.set_xlim(-0.55, len(groups) - 0.45)
        axes.set_xticks(range(len(groups)), [_short(label, 36) for label in groups], color=INK, fontsize=11)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles, names, loc="lower left", bbox_to_anchor=(0.065, 0.015), ncols=len(shown), frameon=False,
            handlelength=1, handleheight=1, columnspacing=1.6, fontsize=9,
        )  # fmt: skip
    return figure


def plot_k_per_answer(report: EvalReport) -> Figure:
    """Latent steps that models chose, over those the written steps ask for, one panel per label.

    Args:
        report: the report.

    Returns:
        A table each: the share of the answers of a column that took so many steps, and a frame around what is asked
        for; bars over K where the data has no written steps.

    Raises:
        ValueError: if no label chose K itself.
    """
    mains = {label: row for label, row in main_rows(report.rows).items() if row.k_table}
    if not mains:
        raise ValueError("no label of this report chose K itself")
    columns = min(len(mains), 2)
    lines = ceil(len(mains) / columns)
    height = 1.1 + 3.4 * lines
    with _style():
        figure = _figure("Latent steps taken, in % of answers", 8.0, height)
        figure.text(
            0.02, 1 - 0.42 / height, "Framed: as many as the written steps ask for", ha="left", va="top", fontsize=9.5,
            color=FAINT,
        )  # fmt: skip
        grid = figure.add_gridspec(
            lines, columns, left=0.085, right=0.97, top=1 - 1.05 / height, bottom=0.6 / height, wspace=0.25, hspace=0.5
        )
        for index, (label, row) in enumerate(mains.items()):
            axes = figure.add_subplot(grid[divmod(index, columns)])
            right = "" if row.k_right is None else f": right in {percent(row.k_right)} %"
            axes.set_title(f"{_short(label, 30 if columns == 2 else 60)}{right}", loc="left", fontsize=10, color=INK)
            (_draw_bars if any(wanted is None for wanted, _, _ in row.k_table) else _draw_table)(axes, row)
    return figure


def _draw_bars(axes: Axes, row: EvalRow) -> None:
    counts: dict[int, int] = {}
    for _, taken, count in row.k_table:
        counts[taken] = counts.get(taken, 0) + count
    axes.bar(list(counts), [100 * count / row.total for count in counts.values()], 0.8, color=COLOURS[0])
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("latent steps taken")
    axes.set_ylabel("answers, %")


def _draw_table(axes: Axes, row: EvalRow) -> None:
    """Shares as shades, each column by itself; with numbers where there is room for them."""
    asked = sorted({wanted for wanted, _, _ in row.k_table if wanted is not None})
    sums = {wanted: sum(count for each, _, count in row.k_table if each == wanted) for wanted in asked}
    lowest, highest = (end([*asked, *(taken for _, taken, _ in row.k_table)]) for end in (min, max))
    roomy = len(asked) <= 8 and highest - lowest < 10
    for wanted, taken, count in row.k_table:
        share = count / sums[wanted or 0]
        at = asked.index(wanted or 0)
        axes.add_patch(Rectangle((at - 0.5, taken - 0.5), 1, 1, facecolor=COLOURS[0], alpha=0.08 + 0.92 * share))
        if roomy:
            ink = "white" if share > 0.45 else INK
            axes.text(at, taken, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color=ink)
    for at, wanted in enumerate(asked):
        axes.add_patch(Rectangle((at - 0.5, wanted - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.4))
    axes.set_xlim(-0.5, len(asked) - 0.5)
    axes.set_ylim(lowest - 0.5, highest + 0.5)
    few = range(0, len(asked), max(1, len(asked) // 10))
    axes.set_xticks(few, [str(asked[at]) for at in few])
    axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(False)
    axes.set_xlabel("latent steps that the written steps ask for")
    axes.set_ylabel("taken")


def plot_curves(report: EvalReport) -> Figure:
    """The training curves, one small panel each.

    Args:
        report: the report.

    Returns:
        Panels in rows of two or three; each has its own scale.

    Raises:
        ValueError: if the report holds no curve.
    """
    curves = {name: points for name, points in report.curves.items() if points}
    if not curves:
        raise ValueError("this report holds no training curve")
    columns = min(len(curves), 2 if len(curves) in (2, 4) else 3)
    rows = ceil(len(curves) / columns)
    height = 0.9 + 2.1 * rows
    with _style():
        figure = _figure("Training curves", 8.0, height)
        grid = figure.add_gridspec(
            rows, columns, left=0.075, right=0.975, top=1 - 0.85 / height, bottom=0.55 / height, wspace=0.25, hspace=0.5
        )
        for index, (name, points) in enumerate(curves.items()):
            axes = figure.add_subplot(grid[divmod(index, columns)])
            steps, values = [point["step"] for point in points], [point["value"] for point in points]
            axes.plot(steps, values, color=COLOURS[0], linewidth=1.6, marker="o" if len(points) < 3 else None)
            axes.set_title(_short(name, 30), loc="left", fontsize=10, color=INK)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axes.tick_params(labelsize=8)
            if index + columns >= len(curves):
                axes.set_xlabel("step", fontsize=9)
    return figure


def plot_chart(chart: Chart) -> Figure:
    """A chart of the report's own.

    Args:
        chart: what to draw.

    Returns:
        Lines with markers, and 95 % intervals as bands where the points have them; single points with their names.

    Raises:
        ValueError: if it has no point.
    """
    if not any(chart.lines.values()):
        raise ValueError(f"the chart {chart.title!r} has no point")
    scale = 100 if chart.shares else 1
    values = sorted({point.x for points in chart.lines.values() for point in points})
    with _style():
        figure = _figure(_short(chart.title, 80), 8.0, 4.5)
        figure.text(0.02, 0.906, chart.y_label, ha="left", va="top", fontsize=9.5, color=FAINT)
        axes = figure.add_axes((0.085, 0.145, 0.69, 0.685))
        if chart.shares:
            axes.set_ylim(0, 100)
            axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
        ends = []
        few = len(values) <= 12
        scatter = all(len(points) <= 1 for points in chart.lines.values())
        for index, (label, points) in enumerate(chart.lines.items()):
            if not points:
                continue
            colour, x, y = COLOURS[index % len(COLOURS)], [p.x for p in points], [scale * p.y for p in points]
            if len(points) == 1 and points[0].low is not None and points[0].high is not None:
                spread = [[y[0] - scale * points[0].low], [scale * points[0].high - y[0]]]
                axes.errorbar(x, y, spread, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
            elif all(p.low is not None for p in points):
                low, high = ([scale * (getattr(p, end) or 0.0) for p in points] for end in ("low", "high"))
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                x, y, color=colour, marker=MARKERS[index % len(MARKERS)] if few else None, markersize=5.5,
                markeredgecolor="white", linewidth=2, clip_on=False, zorder=3,
            )  # fmt: skip
            ends.append((y[-1], label, colour))
            if scatter:
                axes.annotate(
                    _short(label, 30), (x[0], y[0]), (8, 0), textcoords="offset points", va="center", color=colour,
                    fontsize=10, fontweight="bold", annotation_clip=False,
                )  # fmt: skip
        if scatter:
            axes.set_xlim(0, 1.05 * values[-1] or 1)
        else:
            _name_lines(axes, ends)
        axes.xaxis.set_major_locator(
            FixedLocator(values) if few and not scatter else MaxNLocator(8, steps=[1, 2, 5, 10])
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(chart.x_label, labelpad=8)
    return figure


def figures(report: EvalReport) -> dict[str, Figure]:
    """Every chart that the report has data for.

    Args:
        report: the report.

    Returns:
        Name, which is also the name of its PNG file -> figure.
    """
    found = {chart.name: plot_chart(chart) for chart in report.charts}
    if _controlled(report):
        found["controls"] = plot_controls(report)
    found |= {curve.name: plot_accuracy(report, curve) for curve in curves(report.rows)}
    if any(row.k_table for row in main_rows(report.rows).values()):
        found["k_per_answer"] = plot_k_per_answer(report)
    if any(report.curves.values()):
        found["training_curves"] = plot_curves(report)
    return found


def write_plots(report: EvalReport, folder: str | Path) -> list[Path]:
    """Write every chart that the report has data for as a PNG of 150 dots per inch.

    Args:
        report: the report.
        folder: where; made if missing.

    Returns:
        The files written.
    """
    paths = []
    for name, figure in figures(report).items():
        paths.append(Path(folder) / f"{name}.png")
        write_atomically(paths[-1], render(figure, "png"))
    return paths


def render(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of an image file; the same figure gives the same bytes.

    Args:
        figure: what to draw.
        kind: "png" or "svg".

    Returns:
        The content of the file.
    """
    buffer = BytesIO()
    with _style(), warnings.catch_warnings():
        # Without a Japanese font a PNG shows boxes for a Japanese label; that must not cost the report.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _controlled(report: EvalReport) -> dict[str, dict[str, EvalRow]]:
    """Label -> intact and control rows, for labels whose thoughts were replaced at least once."""
    groups = {}
    for label, main in main_rows(report.rows).items():
        controls = control_rows(report.rows, main)
        if set(controls) - {"k0"}:
            groups[label] = {"intact": main, **controls}
    return groups


def _figure(title: str, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.2 / height, title, ha="left", va="top", fontsize=13, fontweight="bold")
    return figure


def _accuracy_axes(title: str, width: float = 8.0) -> tuple[Figure, Axes]:
    figure = _figure(title, width, 4.5)
    figure.text(
        0.02, 0.906, "Accuracy in %, with 95 % Wilson intervals", ha="left", va="top", fontsize=9.5, color=FAINT
    )
    axes = figure.add_axes((0.075, 0.145, 0.72, 0.685))
    axes.set_ylim(0, 100)
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    return figure, axes


def _draw_references(axes: Axes, report: EvalReport, ends: Sequence[tuple[float, str, str]] = ()) -> None:
    """Dashed lines for methods without latent steps, and every name at the right end of its line."""
    named = list(ends)
    for label, row in reference_rows(report.rows).items():
        axes.axhline(100 * row.accuracy, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0.9)
        named.append((100 * row.accuracy, label, FAINT))
    _name_lines(axes, named)


def _name_lines(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Every name at the right end of its line, moved apart where lines end close together."""
    named = sorted(ends)
    low, high = axes.get_ylim()
    heights = _spread([height for height, _, _ in named], gap=0.055 * (high - low), ceiling=high)
    for height, (_, label, colour) in zip(heights, named, strict=True):
        axes.annotate(
            _short(label, 20), (1, height), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", color=colour, fontsize=10, fontweight="normal" if colour == FAINT else "bold",
            annotation_clip=False,
        )  # fmt: skip


def _spread(heights: Sequence[float], gap: float, ceiling: float = 100.0) -> list[float]:
    """Sorted heights moved apart until neighbours are `gap` away, the top one at most at the ceiling."""
    placed = list(heights)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _short(text: str, width: int) -> str:
    text = displayable(text)  # an SVG file holds no control character
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
