import re
from dataclasses import replace

import pytest
from rich.console import Console

from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.tables import further_grid, further_tables, results_table, to_markdown
from latent_gemma.inspection.verdict import verdict

RESULTS = {
    "no reasoning": "12.2 [9.6–15.4] 11.6 4.2 4.2 – – – – – 500",
    "words": "98.8 [97.4–99.4] 98.2 41.7 41.7 – – – – – 500",
    "COCONUT": "34.2 [30.2–38.5] 33.6 4.2 7.2 33.2 29.8 33.6 32.6 31.6 500",
    "annealed": "96.2 [94.1–97.6] 95.6 4.2 8.2 11.6 9.8 10.4 12.2 11.0 500",
}


@pytest.fixture
def draw():
    """Tables as a terminal of some width shows them, one entry a line."""

    def render(*tables, width=200):
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            for table in tables:
                console.print(table)
        return [" ".join(line.split()) for line in captured.get().splitlines()]

    return render


def squeezed(text):
    """Without the spaces that line columns up."""
    return re.sub(" +", " ", text)


def test_time_is_shown_with_its_spread_or_not_at_all(report, draw):
    rows = tuple(
        replace(row, seconds_per_answer=0.0123, seconds_range=(0.0119, 0.0201)) if row.label == "annealed" else row
        for row in report.rows
    )
    lines = draw(*further_tables(replace(report, rows=rows)))
    assert "method median fastest slowest" in lines
    assert "annealed 12.3 11.9 20.1" in lines
    assert not any("median" in line for line in draw(*further_tables(report))), "once, without a spread"


def test_results_hold_every_label_and_number(report, draw):
    lines = draw(results_table(report))
    assert "method accuracy strict tokens passes zero noise swap pause K=0 n" in lines
    assert [line for line in lines if line.endswith("500")] == [f"{label} {cells}" for label, cells in RESULTS.items()]


def test_a_terminal_of_80_columns_loses_nothing(report, draw):
    text = " ".join(draw(results_table(report), width=80))
    for label, cells in RESULTS.items():
        assert all(word in text.split() for word in f"{label} {cells}".split() if word != "–")


def test_a_terminal_of_80_columns_breaks_no_cell(report, draw):
    rows = tuple(replace(row, mode="latent" if row.k else "words", complete=499) for row in report.rows)
    lines = draw(results_table(replace(report, rows=rows)), width=80)
    assert "annealed latent 96.2 [94.1–97.6] 95.6 99.8 0.0 4.2 8.2 500" in lines
    assert "annealed 11.6 9.8 10.4 12.2 11.0" in lines
    assert "words words 98.8 [97.4–99.4] 98.2 99.8 0.0 41.7 41.7 500" in lines
    assert not any(line.startswith("words –") for line in lines)


@pytest.fixture
def chosen(controlled):
    """A report of one method that chooses K, with all that is counted of it."""
    main, *others = (
        replace(row, k="auto", answer_logprob=-2.3456)
        for row in controlled("annealed", 4, 0.0, 481, zero=58, noise=49, swap=52, permute=120, pause=61)
    )
    main = replace(main, k_table=((1, 1, 90), (1, 2, 10), (2, 2, 400)), latent_steps_per_answer=1.82)
    others = [replace(row, donor_rate=0.853, donor_total=450) if row.control == "swap" else row for row in others]
    rows = (main, *others)
    return EvalReport("K", verdict(rows), rows)


def test_what_is_counted_of_controls_and_of_k_is_shown_at_80_columns(chosen, draw):
    lines = draw(results_table(chosen), *further_tables(chosen), width=80)
    for line in (
        "method zero noise swap permute pause donor", "annealed 11.6 9.8 10.4 24.0 12.2 85.3",
        "method intact zero noise swap permute pause", "annealed -2.35 -2.35 -2.35 -2.35 -2.35 -2.35",
        "mean 1.82", "right, % 98.0", "K = 1, % 18.0", "K = 2, % 82.0",
    ):  # fmt: skip
        assert line in lines
    for title in ("## Log-probability of the right answer", "## K per answer"):
        assert title in to_markdown(chosen)


def test_questions_of_another_kind_stand_below_the_others(chosen, row, draw):
    harder = replace(chosen.rows[0], correct=100, k_table=((3, 2, 300), (3, 3, 200)), latent_steps_per_answer=2.4)
    words = row("words", 0, 450)
    (grid,) = further_grid((*chosen.rows, words), {"chains:length=6": [harder, row("words", 0, 50)]})
    assert grid.header == ("method", "questions", "accuracy", "K", "K right", "n")
    assert [line[1] + " " + line[2].split()[0] + " " + " ".join(line[3:]) for line in grid.rows] == [
        "the questions above 96.2 1.82 98.0 500", "chains:length=6 20.0 2.40 40.0 500",
        "the questions above 90.0 – – 500", "chains:length=6 10.0 – – 500",
    ]  # fmt: skip
    assert further_grid(chosen.rows, {}) == ()


def test_several_seeds_show_their_mean_and_spread(report, draw):
    rows = tuple(
        replace(row, by_seed=((0, 0.95), (1, 0.974))) if row.label == "annealed" else row for row in report.rows
    )
    lines = draw(results_table(replace(report, rows=rows)), width=80)
    assert "annealed 96.2 ± 1.7 (2 seeds) 95.6 4.2 8.2 500" in lines


def test_curves_hold_every_point(report, draw):
    lines = draw(*further_tables(report))
    assert "K COCONUT annealed" in lines
    assert "4 34.0 [30.0–38.3] 96.2 [94.1–97.6]" in lines
    assert "0.25 34.6 [30.6–38.9] 96.8 [94.9–98.0]" in lines


def test_what_was_not_measured_has_no_column_and_no_table(bare, draw):
    lines = draw(results_table(bare))
    assert "method accuracy strict tokens passes n" in lines
    assert further_tables(bare) == []
    assert to_markdown(bare).count("## ") == 1


def test_labels_are_no_markup(report, row, draw):
    odd = replace(report, rows=(row("[red]|<b>![x](http://evil.example)", 0, 250),))
    assert any("[red]|<b>" in line for line in draw(results_table(odd)))
    assert "| [red]\\|&lt;b>![x]\\(http://evil.example) | 50.0 [45.6–54.4] |" in squeezed(to_markdown(odd))


def test_markdown_holds_verdict_results_curves_and_context(report):
    text = squeezed(to_markdown(report))
    assert text.startswith(f"# {report.title}\n\n{report.verdict}\n\n## Results\n")
    for label, cells in RESULTS.items():
        accuracy, rest = cells.split("] ")
        assert f"| {label} | {accuracy}] | {' | '.join(rest.split())} |" in text
    assert "| 0.75 | 28.2 [24.4–32.3] | 97.8 [96.1–98.8] |" in text
    assert "| seed | 0 |" in text
    assert {line.count(" | ") for line in text.splitlines() if line.startswith(("| method", "| words"))} == {10}
