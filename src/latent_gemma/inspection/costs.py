"""What answers cost and how many could be read, and the rows of each language, as tables."""

from collections.abc import Sequence

from latent_gemma.evaluation.results import EvalRow, Grid
from latent_gemma.inspection.numbers import percent, with_interval
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import ABSENT


def cost_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Extraction, truncation and cost, one line a method.

    Args:
        rows: the rows of a report.

    Returns:
        One grid, or none if nothing of it was counted.
    """
    mains = [row for row in main_rows(rows).values() if row.extracted is not None and row.marked is not None]
    lines = tuple(
        (
            row.label,
            percent((row.extracted or 0) / row.total),
            percent((row.marked or 0) / row.total),
            percent(row.truncated / row.total),
            f"{row.tokens_per_answer:.1f}",
            f"{row.latent_steps_per_answer or 0:.1f}",
            ABSENT if row.peak_mem_gib is None else f"{row.peak_mem_gib:.2f}",
        )
        for row in mains
    )
    note = (
        "found: answers in which the lenient rules find one, marked: the strict rules do (in an answer mark or where "
        "the prompt's format puts it), cut: cut off at the bound on tokens, all in %; tokens and latent steps are "
        "means an answer, over all traces of a vote; GiB: peak memory, of the process on a CPU."
    )
    header = ("method", "found", "marked", "cut", "tokens", "latent", "GiB")
    return (Grid("Extraction and cost", header, lines, note),) if lines else ()


def language_grid(rows: Sequence[EvalRow]) -> tuple[Grid, ...]:
    """Accuracy and further metrics by language.

    Args:
        rows: rows of one language each.

    Returns:
        One grid, or none without rows.
    """
    names = dict.fromkeys(
        name for row in rows for name, value in row.figures.items() if isinstance(value, float) and _is_score(name)
    )
    lines = tuple(
        (
            row.label,
            row.language if row.language == row.answer_language else f"{row.language} to {row.answer_language}",
            with_interval(row),
            *(f"{value:.3f}" if isinstance(value := row.figures.get(name), float) else ABSENT for name in names),
            str(row.total),
        )
        for row in rows
    )
    note = "Language of the questions, and of the answers wanted where it is another one. Accuracy in %."
    return (Grid("By language", ("method", "language", "accuracy", *names, "n"), lines, note),) if lines else ()


def _is_score(name: str) -> bool:
    return not name.endswith("_threshold")
