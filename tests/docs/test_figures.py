"""What `python docs/figures.py NAME FOLDER` keeps of a run."""

import json
from dataclasses import replace

import figures

from latent_gemma.evaluation.items import to_line
from latent_gemma.evaluation.results import EvalReport
from tests.inspection.conftest import make_row
from tests.inspection.test_comparison import item


def test_which_method_to_pick_is_found_from_the_answers_of_all_seeds(tmp_path, monkeypatch):
    """A report of an older version says "Pick words" of a tie, and has times of a single clocking."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results")
    rows = [make_row("words", 0, 20, total=20, tokens=9.0), make_row("latent", 0, 20, total=20, tokens=2.0)]
    report = EvalReport("T", "V", tuple(replace(row, seconds_per_answer=0.1) for row in rows), choice="Pick words")
    run = tmp_path / "run"
    for seed in (0, 1):
        for label in ("words", "latent"):
            folder = run / f"seed-{seed}" / label
            folder.mkdir(parents=True)
            items = [item(label, n, True) for n in range(20)]
            (folder / "items.jsonl").write_bytes(b"".join(map(to_line, items)))
    (run / "report.json").write_text(json.dumps(report.to_dict()))
    figures.keep("chains_mixed", run)
    kept = figures.read("chains_mixed")
    assert kept.choice == "A tie: latent is the cheapest"
    assert [row.seconds_per_answer for row in kept.rows] == [None, None]
    assert kept.title == "T"


def test_a_table_takes_the_place_of_another_with_its_paragraph():
    page = "A\n\n| x | y |\n|---|---:|\n| 1 | 2 |\n| 3 | 4 |\n\nOld words.\nMore.\n\nB\n"
    heading = "| x | y |"
    assert figures.with_table(page, heading, "| 5 | 6 |") == page.replace("| 1 | 2 |\n| 3 | 4 |", "| 5 | 6 |")
    made = figures.with_table(page, heading, "| 5 | 6 |\n\nNew words.")
    assert made == "A\n\n| x | y |\n|---|---:|\n| 5 | 6 |\n\nNew words.\n\nB\n"
