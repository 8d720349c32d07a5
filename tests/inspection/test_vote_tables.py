"""Votes as tables and charts."""

from latent_gemma.evaluation.vote_rows import VoteMeasured
from latent_gemma.inspection.plots import plot_chart
from latent_gemma.inspection.vote_tables import votes_charts, votes_grids


def measured(row, count):
    rising = tuple((i + 1) / (count + 1) for i in range(count))
    return VoteMeasured(row("x", 0, 300), rising, rising, 0.5, (0.25, 0.2, 0.9), [])


def test_every_k_has_its_column(row):
    maj, passes = votes_grids({"base": measured(row, 5), "sft": measured(row, 5)})
    assert maj.header == ("method", "trace", "strict", "format", "1", "2", "3", "4", "5", "agree")
    assert maj.rows[0] == ("base", "25.0", "20.0", "90.0", "16.7", "33.3", "50.0", "66.7", "83.3", "50.0")
    assert passes.rows[1] == ("sft", "16.7", "33.3", "50.0", "66.7", "83.3")


def test_many_traces_are_thinned_out(row):
    maj, _ = votes_grids({"base": measured(row, 20)})
    assert maj.header[4:-1] == ("1", "2", "4", "8", "16", "20")


def test_charts_start_at_the_greedy_pass(row):
    maj, passes = votes_charts({"sft": measured(row, 3)}, {"sft": row("sft", 0, 250)})
    points = maj.lines["sft"]
    assert [point.x for point in points] == [0, 1, 2, 3]
    assert points[0].y == 0.5
    assert all(point.low < point.y < point.high for point in points)
    assert [point.x for point in passes.lines["sft"]] == [1, 2, 3]
    for chart in (maj, passes):
        axes = plot_chart(chart).axes[0]
        assert axes.get_ylim() == (0, 100)
        assert [text.get_text() for text in axes.texts] == ["sft"]
