"""The numbers as tables: in the terminal, in Markdown and, through the same grids, in the HTML report."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.text import Text
from tabulate import tabulate

from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid, ThoughtTrace
from latent_gemma.inspection.numbers import milliseconds, percent, with_interval
from latent_gemma.inspection.select import control_rows, curves, main_rows
from latent_gemma.text.columns import ABSENT, Columns
from latent_gemma.text.display import displayable

#: Headings short enough for a terminal of 80 columns.
CONTROL_HEADINGS = {
    "zero": "zero", "noise": "noise", "swap": "swap", "permute": "permute", "pause": "pause", "k0": "K=0",
}  # fmt: skip
DONOR = "donor"


def results_grid(report: EvalReport) -> Grid:
    """One line per label: accuracy, cost and controls.

    Args:
        report: the report.

    Returns:
        The grid; controls that no label was measured with have no column.
    """
    mains = main_rows(report.rows)
    controls = {label: control_rows(report.rows, main) for label, main in mains.items()}
    shown = [name for name in CONTROL_HEADINGS if any(name in found for found in controls.values())]
    donors = any("swap" in found and found["swap"].donor_rate is not None for found in controls.values())
    moded = any(main.mode for main in mains.values())
    formatted = any(main.complete is not None for main in mains.values())
    header = (
        "method",
        *(("mode",) if moded else ()),
        "accuracy",
        "strict",
        *(("format", "cut") if formatted else ()),
        "tokens",
        "passes",
        *(CONTROL_HEADINGS[name] for name in shown),
        *((DONOR,) if donors else ()),
        "n",
    )
    rows = tuple(
        (
            label,
            *([main.mode] if moded else []),
            with_interval(main),
            percent(main.strict / main.total),
            *(_format_cells(main) if formatted else ()),
            f"{main.tokens_per_answer:.1f}",
            f"{main.passes_per_answer:.1f}",
            *(percent(controls[label][name].accuracy) if name in controls[label] else ABSENT for name in shown),
            *([_donor_cell(controls[label].get("swap"))] if donors else []),
            str(main.total),
        )
        for label, main in mains.items()
    )
    shape = "; format: answers in the format asked for, cut: answers cut off, both in %" if formatted else ""
    what = "Accuracy in % with its 95 % Wilson interval; tokens and passes are means per answer"
    names = ", ".join(CONTROL_HEADINGS[name] for name in shown)
    also = f"; {names}: accuracy in % with the thoughts replaced or left out" if shown else ""
    gave = f"; {DONOR}: % of swapped answers that are right for the question the thoughts came from" if donors else ""
    return Grid("Results", header, rows, f"{what}{shape}{also}{gave}.")


def _donor_cell(swapped: EvalRow | None) -> str:
    return ABSENT if swapped is None or swapped.donor_rate is None else percent(swapped.donor_rate)


def _format_cells(row: EvalRow) -> tuple[str, str]:
    complete = ABSENT if row.complete is None else percent(row.complete / row.total)
    return complete, percent(row.truncated / row.total)


def metrics_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Further metrics, one line per label.

    Args:
        rows: the rows of a report.

    Returns:
        One grid, or none if no label was measured with further metrics.
    """
    mains = {label: row.figures for label, row in main_rows(rows).items() if row.figures}
    names = list(dict.fromkeys(name for figures in mains.values() for name in figures))
    numbers = [name for name in names if any(isinstance(figures.get(name), float) for figures in mains.values())]
    lines = tuple(
        (label, *(f"{value:.3f}" if isinstance(value := figures.get(name), float) else ABSENT for name in numbers))
        for label, figures in mains.items()
    )
    said = {f"{name}: {figures[name]}" for figures in mains.values() for name in names if name not in numbers}
    note = "Names tell the scale: 0_100 runs to 100, the others to 1. " + "; ".join(sorted(said))
    return (Grid("Further metrics", ("method", *numbers), lines, note.strip()),) if lines else ()


def time_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Milliseconds an answer takes, one line per label.

    Args:
        rows: the rows of a report.

    Returns:
        One grid, or none where nothing was timed.
    """
    lines = tuple(
        (label, *map(milliseconds, (row.seconds_per_answer, *row.seconds_range)))
        for label, row in main_rows(rows).items()
        if row.seconds_per_answer is not None and row.seconds_range is not None
    )
    note = (
        "Milliseconds an answer on the same questions, in batches: median, fastest and slowest of several turns, in "
        "which the methods took each other's place after warming up. Small differences are the machine's."
    )
    return (Grid("Time an answer", ("method", "median", "fastest", "slowest"), lines, note),) if lines else ()


def logprob_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Log-probability of the right answer behind a model's own thoughts and under each control, one line per label.

    Args:
        rows: the rows of a report.

    Returns:
        One grid, or none if it was not measured.
    """
    found = {
        label: {"intact": main, **control_rows(rows, main)}
        for label, main in main_rows(rows).items()
        if main.answer_logprob is not None
    }
    headings = {"intact": "intact", **CONTROL_HEADINGS}
    shown = [name for name in headings if any(name in row for row in found.values())]

    def cell(row: EvalRow | None) -> str:
        return ABSENT if row is None or row.answer_logprob is None else f"{row.answer_logprob:.2f}"

    lines = tuple((label, *(cell(each.get(name)) for name in shown)) for label, each in found.items())
    note = "Mean over questions, in nats, of the right answer with its end; 0 is certainty."
    header = ("method", *(headings[name] for name in shown))
    return (Grid("Log-probability of the right answer", header, lines, note),) if lines else ()


def k_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Latent steps that models chose, one column per label.

    Args:
        rows: the rows of a report.

    Returns:
        One grid: the mean, how often K is what the written steps ask for, and the share of answers at each K; none if
        no model chose.
    """
    mains = {label: row for label, row in main_rows(rows).items() if row.k_table}
    if not mains:
        return ()
    counts: dict[str, Counter[int]] = {label: Counter() for label in mains}
    for label, row in mains.items():
        for _, taken, count in row.k_table:
            counts[label][taken] += count
    right = [ABSENT if row.k_right is None else percent(row.k_right) for row in mains.values()]
    lines = [
        ("mean", *(f"{row.latent_steps_per_answer or 0:.2f}" for row in mains.values())),
        ("right, %", *right),
        *(
            (f"K = {k}, %", *(percent(count[k] / count.total()) if k in count else ABSENT for count in counts.values()))
            for k in sorted(set().union(*counts.values()))
        ),
    ]
    note = "Latent steps the model took of itself; right: as many as the written steps of the question ask for."
    return (Grid("K per answer", ("", *mains), tuple(lines), note),)


def further_grid(rows: Sequence[EvalRow], further: Mapping[str, Sequence[EvalRow]]) -> tuple[Grid, ...]:
    """Accuracy on questions of another kind, one line per label.

    Args:
        rows: the rows of a report.
        further: name of other questions -> main rows measured on them.

    Returns:
        One grid, or none without other questions.
    """
    if not further:
        return ()
    kinds = {"the questions above": rows, **further}
    mains = {name: main_rows(each) for name, each in kinds.items()}
    chosen = any(row.k_table for each in mains.values() for row in each.values())
    lines = tuple(
        (
            label, name, with_interval(mains[name][label]),
            *(_chosen_cells(mains[name][label]) if chosen else ()), str(mains[name][label].total),
        )
        for label in mains["the questions above"]
        for name in kinds
        if label in mains[name]
    )  # fmt: skip
    note = "Accuracy in % with its 95 % Wilson interval, at the main setting." + (
        " K: latent steps the model took of itself, mean, and how often as many as the steps ask for, in %."
        if chosen
        else ""
    )
    header = ("method", "questions", "accuracy", *(("K", "K right") if chosen else ()), "n")
    return (Grid("Questions of another kind", header, lines, note),)


def _chosen_cells(row: EvalRow) -> tuple[str, str]:
    if not row.k_table:
        return ABSENT, ABSENT
    right = ABSENT if row.k_right is None else percent(row.k_right)
    return f"{row.latent_steps_per_answer or 0:.2f}", right


def curve_grids(report: EvalReport) -> list[Grid]:
    """Accuracy over K and over p, one column per label.

    Args:
        report: the report.

    Returns:
        Up to two grids; a curve without data has none.
    """
    note = "Accuracy in % with its 95 % Wilson interval."
    grids = []
    for curve in curves(report.rows):
        columns = [{at: with_interval(row) for at, row in points} for points in curve.lines.values()]
        values = sorted({value for column in columns for value in column})
        rows = tuple((f"{value:g}", *(column.get(value, ABSENT) for column in columns)) for value in values)
        if curve.chosen:
            own = (with_interval(curve.chosen[label]) if label in curve.chosen else ABSENT for label in curve.lines)
            rows += (("chosen", *own),)
        grids.append(Grid(curve.title, (curve.setting, *curve.lines), rows, note))
    return grids


def differences_grid(report: EvalReport) -> tuple[Grid, ...]:
    """Where several methods differ, one line a question.

    Args:
        report: the report.

    Returns:
        One grid, or none: each method's answer, and what its thoughts say where they were read.
    """
    found = report.differences
    if found is None:
        return ()
    rows = tuple((group[0].question, group[0].expected, *map(_answer_cell, group)) for group in found.items)
    note = (
        f"{found.count} of {found.total} questions are answered rightly by some only; in brackets the nearest token of "
        "each thought."
    )
    labels = (trace.label for trace in found.items[0])
    return (Grid("Where they differ", ("question", "expected", *labels), rows, note),)


def _answer_cell(trace: ThoughtTrace) -> str:
    answer = trace.answer if len(trace.answer) <= 60 else trace.answer[:59] + "…"
    said = f" [{' → '.join(step.tokens[0].strip() or '␣' for step in trace.steps)}]" if trace.steps else ""
    return f"{'✓' if trace.correct else '✗'} {answer}{said}"


class _Results:
    """The main table; where it is wider than the terminal, the controls stand in a second one below."""

    def __init__(self, grid: Grid) -> None:
        controls = [
            index for index, heading in enumerate(grid.header) if heading in (*CONTROL_HEADINGS.values(), DONOR)
        ]
        others = [index for index in range(len(grid.header)) if index not in controls]
        self.whole = _draw(grid)
        self.parts = [_draw(_columns(grid, grid.title, others))]
        if controls:
            self.parts.append(_draw(_columns(grid, "Controls", [0, *controls])))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.whole.widest <= options.max_width:
            yield self.whole
        else:
            yield from self.parts
            yield Text(displayable(self.whole.note), style="table.caption")


def _columns(grid: Grid, title: str, chosen: Sequence[int]) -> Grid:
    """Some columns of a grid, without the lines in which nothing was measured, and without its note."""
    header, *lines = (tuple(line[index] for index in chosen) for line in (grid.header, *grid.rows))
    return Grid(title, header, tuple(line for line in lines if set(line[1:]) != {ABSENT}), "")


def results_table(report: EvalReport) -> ConsoleRenderable:
    """The main table for the terminal: one line per label.

    Args:
        report: the report.

    Returns:
        Accuracy with its interval, strict accuracy, cost per answer and accuracy under each control.
    """
    return _Results(results_grid(report))


def further_tables(report: EvalReport) -> list[Columns]:
    """Log-probabilities, K per answer, accuracy over K, p and controls, and the report's own tables, for the terminal.

    Args:
        report: the report.

    Returns:
        The tables; a curve without data has none.
    """
    grids = (*measured_grids(report), *curve_grids(report), *report.tables, *differences_grid(report))
    return [_draw(grid) for grid in grids]


def measured_grids(report: EvalReport) -> tuple[Grid, ...]:
    """What rows tell besides the results: time, log-probabilities and K per answer."""
    return (*time_grid(report.rows), *logprob_grid(report.rows), *k_grid(report.rows))


def _draw(grid: Grid) -> Columns:
    return Columns(grid.header, grid.rows, grid.title, grid.note)


def to_markdown(report: EvalReport) -> str:
    """The report as Markdown: verdict, results, tables, curves, differences and context.

    Args:
        report: the report.

    Returns:
        The text, ending in a newline.
    """
    parts = [
        f"# {_cell(report.title)}",
        f"**{_cell(report.choice)}.** {_cell(report.reason)}" if report.choice else "",
        _cell(report.verdict),
    ]
    for grid in (
        results_grid(report),
        *measured_grids(report),
        *report.tables,
        *curve_grids(report),
        *differences_grid(report),
    ):
        if grid.rows:
            parts += [f"## {_cell(grid.title)}", _markdown(grid.header, grid.rows), _cell(grid.note)]
    if report.context:
        parts += ["## Context", _markdown(("what", "value"), tuple(report.context.items()), numeric=False)]
    return "\n\n".join(part for part in parts if part) + "\n"


def results_markdown(report: EvalReport) -> str:
    """The verdict and the main table as Markdown: what a model card repeats of a report.

    Args:
        report: the report.

    Returns:
        The text, ending in a newline.
    """
    grid = results_grid(report)
    parts = (_cell(report.title), _cell(report.verdict), _markdown(grid.header, grid.rows), _cell(grid.note))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: bool = True) -> str:
    return tabulate(
        [[_cell(text) for text in row] for row in rows],
        [_cell(text) for text in header],
        tablefmt="pipe",
        colalign=["left", *["right" if numeric else "left"] * (len(header) - 1)],
        disable_numparse=True,
    )


def _cell(text: str) -> str:
    """Text that stays in its cell and is read as text, not as HTML and not as a link or an image to load."""
    for raw, safe in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("](", "]\\(")):
        text = text.replace(raw, safe)
    return displayable(" ".join(text.split()))
