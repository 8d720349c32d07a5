"""Several seeds in one report: sums, means and how far the seeds lie apart, worked by hand."""

from dataclasses import replace
from math import sqrt

import pytest

from latent_gemma.errors import DataError
from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.seeds import over_seeds


@pytest.fixture
def two(controlled, row):
    def report(intact, swap, seed, **changes):
        main, swapped = controlled("annealed", 4, 0.0, intact, swap=swap)
        swapped = replace(swapped, donor_rate=swap / 100, donor_total=100 * (seed + 1))
        rows = (replace(main, **changes), swapped, *([row("words", 0, 490)] if seed == 0 else []))
        return EvalReport("T", "", rows, context={"seed": str(seed)}, tables=(Grid("Training", ("a",), (("b",),), ""),))

    times = [
        {"seconds_per_answer": 0.01, "seconds_range": (0.008, 0.02)},
        {"seconds_per_answer": 0.03, "seconds_range": (0.01, 0.04)},
    ]
    return (
        report(
            480,
            40,
            0,
            **times[0],
            k_table=((1, 1, 500),),
            answer_logprob=-0.2,
            peak_mem_gib=1.0,
            figures={"f": 0.5, "s": "x"},
        ),
        report(
            500,
            60,
            1,
            **times[1],
            k_table=((1, 1, 490), (1, 2, 10)),
            answer_logprob=-0.4,
            figures={"f": 0.7, "s": "y"},
        ),
    )


def test_rows_of_a_setting_are_summed(two):
    main, swapped, words = over_seeds(two, (3, 5)).rows
    assert (main.correct, main.total, main.accuracy) == (980, 1000, 0.98)
    assert main.by_seed == ((3, 0.96), (5, 1.0))
    assert main.seed_sd == pytest.approx(0.04 / sqrt(2))
    assert with_interval(main) == "98.0 ± 2.8 (2 seeds)"
    assert (main.low, main.high) == wilson_interval(490, 500), "as sure as the questions of one seed are"
    assert (main.seconds_per_answer, main.seconds_range) == (0.02, (0.008, 0.04))
    assert main.answer_logprob == pytest.approx(-0.3)
    assert main.k_table == ((1, 1, 990), (1, 2, 10))
    assert (main.k_right, main.peak_mem_gib, main.figures) == (0.99, 1.0, {"f": pytest.approx(0.6)})
    assert (swapped.donor_total, swapped.donor_rate) == (300, pytest.approx((40 + 2 * 60) / 300))
    assert (words.by_seed, words.seed_sd, words.total) == (((3, 0.98),), None, 500)


def test_the_report_shows_each_seed(two):
    report = over_seeds(two, (3, 5))
    grid, training = report.tables
    assert grid.rows == (
        ("annealed", "98.0", "2.8", "96.0–100.0", "[96.4–98.9]", "96.0 100.0"),
        ("words", "98.0", "–", "98.0–98.0", "[96.4–98.9]", "98.0 –"),
    )
    assert training.title == "Training (seed 3)"
    assert report.context == {"seed": "3, 5", "seeds shown in detail": "3"}
    assert "swapping them takes 88.0 points (intact 98.0 %, swapped 10.0 %)" in report.verdict


def test_one_seed_is_shown_as_it_is(two):
    report = over_seeds(two[:1], [0])
    assert [with_interval(row) for row in report.rows] == [with_interval(row) for row in two[0].rows]
    assert report.tables == two[0].tables


def test_every_report_has_its_seed(two):
    for reports, seeds in ((two, (1,)), ((), ())):
        with pytest.raises(DataError, match="one report a seed"):
            over_seeds(reports, seeds)


def test_rows_survive_their_file(two):
    report = over_seeds(two, (0, 1))
    assert tuple(map(EvalRow.from_dict, report.to_dict()["rows"])) == report.rows
