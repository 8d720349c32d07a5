"""Charts of a report: accuracy over cost, K, p and controls, K per answer, training curves, its own line charts.

Drawn as wide as a telephone shows them legibly. Figures are built without pyplot, so none stays open behind the
caller's back.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, PercentFormatter

from latent_gemma.evaluation.results import Chart, EvalReport, EvalRow, Point
from latent_gemma.files import write_atomically
from latent_gemma.inspection.numbers import percent
from latent_gemma.inspection.select import CONTROL_NAMES, Curve, control_rows, curves, main_rows, reference_rows
from latent_gemma.text.display import displayable

#: Inches, and dots per inch of a PNG.
WIDTH, DPI = 5.0, 200
PAPER, INK, FAINT, GRID, EDGE, CELL = "#ffffff", "#1f2933", "#5a6673", "#e4e8ec", "#b9c2cb", "#2464a3"
#: What an SVG file shows in the place of each colour on a dark page.
DARK = {
    PAPER: "#1b2127", INK: "#e5e9ee", FAINT: "#a3afbb", GRID: "#303943", EDGE: "#4d5863", CELL: "#2f76bd",
    "#1f5a96": "#7fb2e8", "#c8553d": "#f08a72", "#2a8c7a": "#5fc9b4", "#8a5a9e": "#c79adb", "#b8860b": "#e3b94f",
    "#4f5d75": "#a3b1c9", "#7a9a01": "#b5d147", "#d6418b": "#f58fc0", "#1aa0c8": "#6fd3f0", "#7b4a2a": "#c99b78",
}  # fmt: skip
#: Methods: colours that stay apart for colour-blind readers; markers repeat what they say.
COLOURS, MARKERS = tuple(DARK)[6:], ("o", "s", "D", "^", "v", "P", "X", "p", "<", ">")
#: The first always exists, the others hold Japanese on the usual systems.
FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic")
INTERVALS = "Accuracy in %, 95 % Wilson intervals"

#: A label -> its colour and its marker, the same in every chart of a report.
Looks = Mapping[str, tuple[str, str]]


@contextmanager
def _style() -> Iterator[None]:
    """Our settings while a figure is built or written; the caller's come back afterwards."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    settings: Any = {
        "font.family": [name for name in FONTS if name in installed],
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,  # a label with two dollar signs is no formula
        "axes.edgecolor": EDGE,
        "axes.labelcolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.facecolor": PAPER,
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


def _looks(labels: Iterable[str]) -> Looks:
    return {
        label: (COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)])
        for at, label in enumerate(dict.fromkeys(labels))
    }


def plot_accuracy(report: EvalReport, curve: Curve) -> Figure:
    """Accuracy over one setting, such as the number of latent steps, one line per label.

    Args:
        report: the report.
        curve: one of its `curves`.

    Returns:
        Lines with 95 % Wilson intervals as bands; as dashed lines labels without latent steps, and over K what models
        reach that choose it.
    """
    looks = _looks(main_rows(report.rows))
    lines = {
        label: tuple(Point(at, row.accuracy, row.low, row.high) for at, row in points)
        for label, points in curve.lines.items()
    }
    references = reference_rows(report.rows)
    note = f"{INTERVALS}; dashed: the model's own K" if curve.chosen else INTERVALS
    with _style():
        figure, axes = _line_axes(curve.title, note, len(lines) + len(references))
        ends = _draw_lines(axes, lines, looks, 100)
        for label, row in curve.chosen.items():
            axes.axhline(100 * row.accuracy, color=looks[label][0], linewidth=1.4, linestyle=(0, (4, 3)), zorder=2)
        for label, row in references.items():
            axes.axhline(100 * row.accuracy, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0.9)
            ends.append((1.0, 100 * row.accuracy, label, FAINT))
        _name(axes, ends, "axes fraction")
        _ticks(axes, [point.x for points in lines.values() for point in points])
        axes.set_xlabel(fill(curve.axis, 50), labelpad=6)
    return figure


def plot_chart(chart: Chart, looks: Looks | None = None) -> Figure:
    """A chart of the report's own.

    Args:
        chart: what to draw.
        looks: of labels that other charts show too.

    Returns:
        Lines with markers, and 95 % intervals as bands where the points have them; single points with their names.

    Raises:
        ValueError: if it has no point.
    """
    lines = {label: points for label, points in chart.lines.items() if points}
    if not lines:
        raise ValueError(f"the chart {chart.title!r} has no point")
    looks = {**_looks(lines), **(looks or {})}
    scale = 100 if chart.shares else 1
    scattered = all(len(points) == 1 for points in lines.values())
    with _style():
        figure, axes = _line_axes(chart.title, chart.y_label, len(lines), chart.shares)
        ends = _draw_lines(axes, lines, looks, scale)
        values = [point.x for points in lines.values() for point in points]
        if scattered:
            for label, (point,) in lines.items():
                _draw_spread(axes, point, scale, looks[label][0])
            ends = [(point.x, scale * point.y, label, looks[label][0]) for label, (point,) in lines.items()]
            axes.set_xlim(0, 1.05 * max(point.x_range[1] if point.x_range else point.x for (point,) in lines.values()))
            axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        else:
            _ticks(axes, values)
        _name(axes, ends, "data" if scattered else "axes fraction")
        axes.set_xlabel(fill(chart.x_label, 50), labelpad=6)
    return figure


def _line_axes(title: str, note: str, names: int, shares: bool = True) -> tuple[Figure, Axes]:
    """Axes with room for names on the right, in percent where shares are drawn."""
    figure, top = _figure(title, note, max(3.7, 1.5 + 0.19 * names))
    height = figure.get_figheight()
    axes = figure.add_axes((0.105, 0.62 / height, 0.575, 1 - (top + 0.72) / height))
    if shares:
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    return figure, axes


def _draw_lines(
    axes: Axes, lines: Mapping[str, Sequence[Point]], looks: Looks, scale: float
) -> list[tuple[float, float, str, str]]:
    """Lines with their bands; returns the ends, as `_name` takes them."""
    ends = []
    for label, points in lines.items():
        colour, marker = looks[label]
        x, y = [point.x for point in points], [scale * point.y for point in points]
        if len(points) > 1 and all(point.low is not None for point in points):
            low, high = ([scale * (getattr(point, end) or 0.0) for point in points] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            x, y, color=colour, marker=marker if len(points) <= 12 else None, markersize=6, markeredgecolor=PAPER,
            linewidth=2, clip_on=False, zorder=3,
        )  # fmt: skip
        ends.append((1.0, y[-1], label, colour))
    return ends


def _draw_spread(axes: Axes, point: Point, scale: float, colour: str) -> None:
    """The intervals of a point that stands alone."""
    style: Any = {"color": colour, "linewidth": 1.2, "clip_on": False, "zorder": 2.5}
    if point.low is not None and point.high is not None:
        axes.plot([point.x] * 2, [scale * point.low, scale * point.high], **style)
    if point.x_range is not None:
        axes.plot(point.x_range, [scale * point.y] * 2, **style)


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    found = sorted(set(values))
    margin = 0.03 * (found[-1] - found[0]) or 0.5
    axes.set_xlim(found[0] - margin, found[-1] + margin)
    axes.xaxis.set_major_locator(FixedLocator(found) if len(found) <= 9 else MaxNLocator(8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name(axes: Axes, ends: Sequence[tuple[float, float, str, str]], x_of: str) -> None:
    """Every name on the right with a line to what it names, moved apart so that none overlaps another.

    Args:
        axes: where.
        ends: x, y, name and colour of what is named.
        x_of: what x is in: "data", or "axes fraction".
    """
    low, high = axes.get_ylim()
    gap = 13 * axes.figure.dpi / (72 * axes.bbox.height) * (high - low)  # 13 points
    # Of points of about one height the one on the right is named highest, so that the lines to them do not cross.
    named = sorted(ends, key=lambda end: (round(2 * end[1] / gap), end[0]))
    heights = _spread([y for _, y, _, _ in named], gap, ceiling=high)
    for height, (x, y, label, colour) in zip(heights, named, strict=True):
        axes.annotate(
            _short(label, 19), (x, y), (1.06, height), xycoords=(x_of, "data"), textcoords=("axes fraction", "data"),
            va="center", color=colour, fontsize=9.5, fontweight="normal" if colour == FAINT else "bold",
            annotation_clip=False, zorder=2,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "relpos": (0, 0.5), "shrinkA": 1},
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


def plot_controls(report: EvalReport) -> Figure:
    """Accuracy with the thoughts left alone, replaced and left out, one group of bars per label.

    Args:
        report: the report.

    Returns:
        Bars with 95 % Wilson intervals: of each label without latent steps one, then of each other label intact,
        zeroed, noise, swapped, permuted, pause, K=0.

    Raises:
        ValueError: if no label was measured under a control.
    """
    groups = _controlled(report)
    if not groups:
        raise ValueError("no label of this report was measured under a control")
    looks = _looks(main_rows(report.rows))
    bars: list[tuple[float, str, EvalRow, str, float]] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for label, row in reference_rows(report.rows).items():
        bars.append((y, label, row, FAINT, 0.8))
        y += 1
    for label, group in groups.items():
        heads.append((y + 0.35, label))
        y += 1.4
        for name, row in group.items():
            bars.append((y, CONTROL_NAMES.get(name, name), row, looks[label][0], 1.0 if name == "intact" else 0.5))
            y += 1
    with _style():
        figure, top = _figure("Accuracy when the thoughts are replaced", INTERVALS, 0.95 + 0.175 * y)
        height = figure.get_figheight()
        axes = figure.add_axes((0.26, 0.3 / height, 0.7, 1 - (top + 0.35) / height))
        for at, name, row, colour, alpha in bars:
            axes.barh(at, 100 * row.accuracy, 0.78, color=colour, alpha=alpha, linewidth=0)
            axes.plot([100 * row.low, 100 * row.high], [at, at], color=INK, linewidth=1)
            text: Any = {"va": "center", "fontsize": 9, "annotation_clip": False, "textcoords": "offset points"}
            axes.annotate(_short(name, 18), (0, at), (-5, 0), ha="right", color=FAINT, **text)
            bold = "bold" if name == "intact" else "normal"
            axes.annotate(percent(row.accuracy), (100 * row.high, at), (4, 0), ha="left", fontweight=bold, **text)
        for at, label in heads:
            axes.annotate(
                _short(label, 48), (0.02, at), xycoords=("figure fraction", "data"), va="center", fontsize=10,
                fontweight="bold", color=looks[label][0], annotation_clip=False,
            )  # fmt: skip
        axes.set_ylim(y - 0.4, -0.7)
        axes.set_yticks([])
        axes.grid(False)
        axes.grid(True, axis="x")
        axes.set_xlim(0, 112)
        axes.xaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
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
    with _style():
        note = "Framed: as many as the written steps ask for"
        figure, top = _figure("Latent steps taken, in % of answers", note, 1.1 + 2.4 * lines)
        height = figure.get_figheight()
        grid = figure.add_gridspec(
            lines, columns, left=0.1, right=0.98, top=1 - (top + 0.45) / height, bottom=0.5 / height, wspace=0.28,
            hspace=0.5,
        )  # fmt: skip
        for index, (label, row) in enumerate(mains.items()):
            axes = figure.add_subplot(grid[divmod(index, columns)])
            right = "" if row.k_right is None else f": right in {percent(row.k_right)} %"
            width = 30 if columns == 2 else 60
            axes.set_title(fill(_short(f"{label}{right}", 3 * width), width), loc="left", fontsize=9.5, color=INK)
            (_draw_bars if any(wanted is None for wanted, _, _ in row.k_table) else _draw_table)(axes, row)
    return figure


def _draw_bars(axes: Axes, row: EvalRow) -> None:
    counts: dict[int, int] = {}
    for _, taken, count in row.k_table:
        counts[taken] = counts.get(taken, 0) + count
    axes.bar(list(counts), [100 * count / row.total for count in counts.values()], 0.8, color=CELL)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("taken")
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
        axes.add_patch(Rectangle((at - 0.5, taken - 0.5), 1, 1, facecolor=CELL, alpha=0.08 + 0.92 * share))
        if roomy:
            ink = "#fefefe" if share > 0.45 else INK  # not the paper, which is dark on a dark page
            axes.text(at, taken, f"{100 * share:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
    for at, wanted in enumerate(asked):
        axes.add_patch(Rectangle((at - 0.5, wanted - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.4))
    axes.set_xlim(-0.5, len(asked) - 0.5)
    axes.set_ylim(lowest - 0.5, highest + 0.5)
    few = range(0, len(asked), max(1, len(asked) // 10))
    axes.set_xticks(few, [str(asked[at]) for at in few])
    axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(False)
    axes.set_xlabel("steps asked for", fontsize=9)
    axes.set_ylabel("taken", fontsize=9)


def plot_curves(report: EvalReport) -> Figure:
    """The training curves, one panel for each quantity.

    Args:
        report: the report; a curve "METHOD: QUANTITY" of one of its methods is a line of that quantity's panel.

    Returns:
        Panels below each other with a scale each; a method has one colour in all of them.

    Raises:
        ValueError: if the report holds no curve.
    """
    looks = _looks(main_rows(report.rows))
    panels: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, points in report.curves.items():
        label, _, quantity = name.partition(": ")
        known = label in looks and quantity
        if points:
            panels.setdefault(quantity if known else name, {})[label if known else ""] = points
    if not panels:
        raise ValueError("this report holds no training curve")
    shown = [label for label in looks if any(label in lines for lines in panels.values())]
    with _style():
        legend = 0.25 * ceil(len(shown) / 3)
        figure, top = _figure("Training curves", "", 0.75 + legend + 1.75 * len(panels))
        height = figure.get_figheight()
        grid = figure.add_gridspec(
            len(panels),
            1,
            left=0.11,
            right=0.97,
            top=1 - (top + legend + 0.3) / height,
            bottom=0.45 / height,
            hspace=0.5,
        )
        for index, (name, lines) in enumerate(panels.items()):
            axes = figure.add_subplot(grid[index, 0])
            for label, points in lines.items():
                steps, values = [point["step"] for point in points], [point["value"] for point in points]
                colour = looks[label][0] if label else CELL
                axes.plot(
                    steps, values, color=colour, linewidth=1.4, marker="o" if len(points) < 3 else None,
                    label=_short(label, 20) if label else "",
                )  # fmt: skip
            axes.set_title(fill(displayable(name), 60), loc="left", fontsize=10, color=INK)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axes.tick_params(labelsize=9)
        axes.set_xlabel("training step", fontsize=9)
        if shown:
            handles = [Line2D([], [], color=looks[label][0], linewidth=2) for label in shown]
            figure.legend(
                handles, [_short(label, 20) for label in shown], loc="upper left", ncols=3, frameon=False, fontsize=9,
                bbox_to_anchor=(0.0, 1 - top / height), handlelength=1.2, columnspacing=1.2, borderaxespad=0.2,
            )  # fmt: skip
    return figure


def figures(report: EvalReport) -> dict[str, Figure]:
    """Every chart that the report has data for.

    Args:
        report: the report.

    Returns:
        Name, which is also the name of its PNG file -> figure.
    """
    looks = _looks(main_rows(report.rows))
    found = {chart.name: plot_chart(chart, looks) for chart in report.charts}
    if _controlled(report):
        found["controls"] = plot_controls(report)
    found |= {curve.name: plot_accuracy(report, curve) for curve in curves(report.rows)}
    if any(row.k_table for row in main_rows(report.rows).values()):
        found["k_per_answer"] = plot_k_per_answer(report)
    if any(report.curves.values()):
        found["training_curves"] = plot_curves(report)
    return found


def write_plots(report: EvalReport, folder: str | Path) -> list[Path]:
    """Write every chart that the report has data for as a PNG of 200 dots per inch.

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
        kind: "png", or "svg", which is dark where the reader prefers it.

    Returns:
        The content of the file.
    """
    buffer = BytesIO()
    with _style(), warnings.catch_warnings():
        # Without a Japanese font a PNG shows boxes for a Japanese label; that must not cost the report.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    if kind != "svg":
        return buffer.getvalue()
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>".encode()
    return buffer.getvalue().replace(b"<defs>", b"<defs>" + style, 1)


def _controlled(report: EvalReport) -> dict[str, dict[str, EvalRow]]:
    """Label -> intact and control rows, for labels whose thoughts were replaced at least once."""
    groups = {}
    for label, main in main_rows(report.rows).items():
        controls = control_rows(report.rows, main)
        if set(controls) - {"k0"}:
            groups[label] = {"intact": main, **controls}
    return groups


def _figure(title: str, note: str, height: float) -> tuple[Figure, float]:
    """A figure with its heading, and the inches that the heading takes."""
    title, note = fill(_short(title, 150), 50), fill(displayable(note), 66)
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.14 / height, title, ha="left", va="top", fontsize=12, fontweight="bold")
    top = 0.2 + 0.2 * len(title.splitlines())
    figure.text(0.02, 1 - top / height, note, ha="left", va="top", fontsize=9, color=FAINT)
    return figure, top + 0.17 * len(note.splitlines())


def _short(text: str, width: int) -> str:
    text = displayable(text)  # an SVG file holds no control character
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
