from dataclasses import replace

import pytest
from rich.console import Console

from latent_gemma.inspection.tables import further_tables, results_table, to_markdown

RESULTS = {
    "no reasoning": "12.2 [9.6–15.4] 11.6 4.2 4.2 6.1 – – – – – 500",
    "words": "98.8 [97.4–99.4] 98.2 41.7 41.7 313 – – – – – 500",
    "COCONUT": "34.2 [30.2–38.5] 33.6 4.2 7.2 12.3 33.2 29.8 33.6 32.6 31.6 500",
    "annealed": "96.2 [94.1–97.6] 95.6 4.2 8.2 12.3 11.6 9.8 10.4 12.2 11.0 500",
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


def test_results_hold_every_label_and_number(report, draw):
    lines = draw(results_table(report))
    assert "method accuracy strict tokens passes ms zero noise swap pause K=0 n" in lines
    assert [line for line in lines if line.endswith("500")] == [f"{label} {cells}" for label, cells in RESULTS.items()]


def test_a_terminal_of_80_columns_loses_nothing(report, draw):
    text = " ".join(draw(results_table(report), width=80))
    for label, cells in RESULTS.items():
        assert all(word in text.split() for word in f"{label} {cells}".split() if word != "–")


def test_a_terminal_of_80_columns_breaks_no_cell(report, draw):
    rows = tuple(replace(row, mode="latent" if row.k else "words", complete=499) for row in report.rows)
    lines = draw(results_table(replace(report, rows=rows)), width=80)
    assert "annealed latent 96.2 [94.1–97.6] 95.6 99.8 0.0 4.2 8.2 12.3 500" in lines
    assert "annealed 11.6 9.8 10.4 12.2 11.0" in lines
    assert "words words 98.8 [97.4–99.4] 98.2 99.8 0.0 41.7 41.7 313 500" in lines
    assert not any(line.startswith("words –") for line in lines)


def test_curves_hold_every_point(report, draw):
    lines = draw(*further_tables(report))
    assert "K COCONUT annealed" in lines
    assert "4 34.0 [30.0–38.3] 96.2 [94.1–97.6]" in lines
    assert "0.25 34.6 [30.6–38.9] 96.8 [94.9–98.0]" in lines


def test_what_was_not_measured_has_no_column_and_no_table(bare, draw):
    lines = draw(results_table(bare))
    assert "method accuracy strict tokens passes ms n" in lines
    assert further_tables(bare) == []
    assert to_markdown(bare).count("## ") == 1


def test_labels_are_no_markup(report, row, draw):
    odd = replace(report, rows=(row("[red]|<b>![x](http://evil.example)", 0, 250),))
    assert any("[red]|<b>" in line for line in draw(results_table(odd)))
    assert "| [red]\\|&lt;b>![x]\\(http://evil.example) | 50.0 [45.6–54.4] |" in to_markdown(odd)


def test_markdown_holds_verdict_results_curves_and_context(report):
    text = to_markdown(report)
    assert text.startswith(f"# {report.title}\n\n{report.verdict}\n\n## Results\n")
    for label, cells in RESULTS.items():
        accuracy, rest = cells.split("] ")
        assert f"| {label} | {accuracy}] | {' | '.join(rest.split())} |" in text
    assert "| 0.75 | 28.2 [24.4–32.3] | 97.8 [96.1–98.8] |" in text
    assert "| seed | 0 |" in text
    assert {line.count(" | ") for line in text.splitlines() if line.startswith(("| method", "| words"))} == {11}
