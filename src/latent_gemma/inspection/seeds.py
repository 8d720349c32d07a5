"""Reports of the same study under several seeds as one: means, and how far the seeds lie apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from latent_gemma.errors import DataError
from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid
from latent_gemma.inspection.numbers import interval, percent
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import ABSENT
from latent_gemma.inspection.verdict import verdict

#: Fields of a row that are counts.
_COUNTS = ("correct", "strict", "total", "complete", "truncated", "extracted", "marked", "donor_total")
#: Those that are means over its items.
_MEANS = (
    "tokens_per_answer", "passes_per_answer", "seconds_per_answer", "latent_steps_per_answer", "answer_logprob",
)  # fmt: skip


def over_seeds(reports: Sequence[EvalReport], seeds: Sequence[int]) -> EvalReport:
    """One report of several that differ in their seed alone.

    Args:
        reports: one a seed, at least one.
        seeds: of each.

    Returns:
        Each setting as one row: counts summed, means over all items, the accuracy of each seed beside them; its 95 %
        interval is for the questions of one seed, since answers to one question under several seeds are not
        independent. The verdict is found anew; traces, curves, charts and the reports' own tables are the first one's.

    Raises:
        DataError: for no report, or another number of seeds.
    """
    if not reports or len(reports) != len(seeds):
        raise DataError(f"{len(reports)} reports of {len(seeds)} seeds", "give one report a seed")
    first = reports[0]
    rows = _over_seeds([report.rows for report in reports], seeds)
    named = ", ".join(map(str, seeds))
    tables = tuple(replace(grid, title=f"{grid.title} (seed {seeds[0]})") for grid in first.tables)
    return replace(
        first,
        verdict=verdict(rows),
        rows=rows,
        context=first.context | {"seed": named} | ({"seeds shown in detail": str(seeds[0])} if len(seeds) > 1 else {}),
        tables=(*seeds_grid(rows, seeds), *(tables if len(seeds) > 1 else first.tables)),
        languages=_over_seeds([report.languages for report in reports], seeds),
    )


def seeds_grid(rows: Sequence[EvalRow], seeds: Sequence[int]) -> tuple[Grid, ...]:
    """Accuracy of each seed, one line per label.

    Args:
        rows: of several seeds.
        seeds: in the order shown.

    Returns:
        One grid, or none for fewer than two seeds.
    """
    if len(seeds) < 2:
        return ()
    lines = []
    for label, row in main_rows(rows).items():
        known = dict(row.by_seed)
        spread = ABSENT if row.seed_sd is None else percent(row.seed_sd)
        ends = f"{percent(min(known.values()))}–{percent(max(known.values()))}"
        # in one cell, which a narrow terminal breaks between the seeds
        each = " ".join(percent(known[seed]) if seed in known else ABSENT for seed in seeds)
        lines.append((label, percent(row.accuracy), spread, ends, interval(row), each))
    header = ("method", "mean", "sd", "min–max", "over questions", "each seed")
    note = (
        "Accuracy in %: mean, standard deviation and range over seeds; over questions: the 95 % Wilson interval that "
        f"the questions of one seed give; the seeds are {', '.join(map(str, seeds))}."
    )
    return (Grid("Over seeds", header, tuple(lines), note),)


def _over_seeds(groups: Sequence[Sequence[EvalRow]], seeds: Sequence[int]) -> tuple[EvalRow, ...]:
    """The rows of each setting summed, in the order in which the settings appear."""
    found: dict[tuple[Any, ...], list[tuple[int, EvalRow]]] = {}
    for seed, rows in zip(seeds, groups, strict=True):
        for row in rows:
            key = (row.label, row.k, row.p, row.control, row.mode, row.language, row.answer_language)
            found.setdefault(key, []).append((seed, row))
    return tuple(_summed(group) for group in found.values())


def _summed(group: Sequence[tuple[int, EvalRow]]) -> EvalRow:
    rows = [row for _, row in group]

    def known(name: str) -> list[tuple[EvalRow, Any]]:
        return [(row, getattr(row, name)) for row in rows if getattr(row, name) is not None]

    def mean(name: str, weight: Callable[[EvalRow], float]) -> float | None:
        values = known(name)
        return (
            sum(weight(row) * value for row, value in values) / sum(weight(row) for row, _ in values)
            if values
            else None
        )

    sums: dict[str, Any] = {
        name: sum(value for _, value in values) if (values := known(name)) else None for name in _COUNTS
    }
    means: dict[str, Any] = {name: mean(name, lambda row: row.total) for name in _MEANS}
    # n is how many questions one seed has, and so may be a fraction where they differ
    low, high = wilson_interval(sums["correct"] / len(rows), sums["total"] / len(rows))
    counts: dict[tuple[int | None, int], int] = {}
    for wanted, taken, count in (entry for row in rows for entry in row.k_table):
        counts[wanted, taken] = counts.get((wanted, taken), 0) + count
    table = sorted(counts.items(), key=lambda entry: (-1 if entry[0][0] is None else entry[0][0], entry[0][1]))
    ranges = [spread for _, spread in known("seconds_range")]
    peaks = [peak for _, peak in known("peak_mem_gib")]
    return replace(
        rows[0],
        **sums,
        **means,
        low=low,
        high=high,
        donor_rate=mean("donor_rate", lambda row: row.donor_total or 0),
        figures=_figures(rows),
        peak_mem_gib=max(peaks, default=None),
        k_table=tuple((wanted, taken, count) for (wanted, taken), count in table),
        seconds_range=(min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None,
        by_seed=tuple((seed, row.accuracy) for seed, row in group),
    )


def _figures(rows: Sequence[EvalRow]) -> dict[str, float | str]:
    """Means of what is a number everywhere; texts where all agree."""
    figures: dict[str, float | str] = {}
    for name, value in rows[0].figures.items():
        values = [row.figures.get(name) for row in rows]
        numbers = [each for each in values if isinstance(each, int | float)]
        if len(numbers) == len(rows):
            figures[name] = sum(numbers) / len(numbers)
        elif all(each == value for each in values):
            figures[name] = value
    return figures
