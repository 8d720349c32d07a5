import re
from dataclasses import replace
from itertools import combinations

import matplotlib
import pytest
from matplotlib.text import Text
from PIL import Image

from latent_gemma.inspection import plots
from latent_gemma.inspection.comparison import cost_charts
from latent_gemma.inspection.plots import (
    figures,
    plot_accuracy,
    plot_chart,
    plot_controls,
    plot_curves,
    plot_k_per_answer,
    render,
    write_plots,
)
from latent_gemma.inspection.select import curves

PLOTS = (plot_controls, plot_curves)
NAMES = ["controls", "accuracy_over_k", "accuracy_over_p", "training_curves"]


def test_pngs_have_the_expected_size(report, tmp_path):
    paths = write_plots(report, tmp_path / "new")
    assert [path.stem for path in paths] == NAMES
    for path in paths:
        with Image.open(path) as image:
            assert image.width == 1000
            assert len(image.convert("L").getcolors()) > 50
    assert sorted(file.name for file in paths[0].parent.iterdir()) == sorted(f"{name}.png" for name in NAMES)


def test_without_data_there_is_no_chart(bare, tmp_path):
    assert write_plots(bare, tmp_path) == []
    for plot in PLOTS:
        with pytest.raises(ValueError, match="report"):
            plot(bare)


def test_lines_and_bars_show_the_rows(report):
    axes = plot_accuracy(report, curves(report.rows)[0]).axes[0]
    lines = [line for line in axes.lines if line.get_marker() != "None"]
    assert list(lines[1].get_xdata()) == [0, 1, 2, 3, 4, 5, 6]
    assert lines[1].get_ydata()[4] == pytest.approx(96.2)
    assert {text.get_text() for text in axes.texts} == {"words", "annealed", "COCONUT", "no reasoning"}
    bars = plot_controls(report).axes[0].patches
    assert sorted(round(bar.get_width(), 1) for bar in bars)[-2:] == [96.2, 98.8]
    assert len(bars) == 14, "each of two methods under six, and the two that have no thoughts"


def test_chosen_k_is_drawn_over_what_is_asked_for(report, row):
    table = ((1, 1, 30), (1, 2, 10), (2, 2, 60))
    own = replace(row("own", 2, 80, p=0.0, total=100), k="auto", k_table=table)
    bare = replace(own, label="bare", k_table=tuple((None, taken, count) for _, taken, count in table))
    drawn = plot_k_per_answer(replace(report, rows=(own, bare)))
    asked, bars = drawn.axes
    assert [text.get_text() for text in asked.texts] == ["75", "25", "100"]
    assert asked.get_title(loc="left") == "own: right in 90.0 %"
    assert [bar.get_height() for bar in bars.patches] == [30, 70]
    assert "k_per_answer" in figures(replace(report, rows=(own,)))
    with pytest.raises(ValueError, match="chose K"):
        plot_k_per_answer(report)


def test_over_k_a_model_that_chooses_it_is_a_line_of_its_own(report, row):
    own = replace(row("own", 2, 400, p=0.0), k="auto")
    rows = (own, row("own", 1, 100, p=0.0), row("own", 2, 200, p=0.0))
    axes = plot_accuracy(replace(report, rows=rows), curves(rows)[0]).axes[0]
    assert {text.get_text() for text in axes.texts} == {"own"}
    assert any(list(line.get_ydata()) == [80, 80] for line in axes.lines)


def test_names_on_the_right_never_overlap(report, row):
    crowded = replace(report, rows=(*report.rows, *(row(f"method {i}", 0, 490 + i) for i in range(5))))
    axes = plot_accuracy(crowded, curves(crowded.rows)[1]).axes[0]
    assert apart(axes)


def apart(axes):
    """Whether no name on a chart covers another, by the boxes they are drawn in, without the lines that lead there."""
    renderer = axes.figure.canvas.get_renderer()
    axes.figure.draw(renderer)
    boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]
    return not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_names_of_methods_that_tie_do_not_overlap(report, row, same):
    """As on chains of mixed length, where five of nine methods are right on every question at the same cost."""
    mains = {f"method {i}": row(f"method {i}", 0, 500 - i % 2, tokens=2 + same * i) for i in range(9)}
    for chart in cost_charts(mains):
        axes = plot_chart(chart).axes[0]
        assert apart(axes)
        assert {text.get_text() for text in axes.texts} == set(mains)


def test_a_method_has_one_colour_in_all_panels_and_charts(report, row):
    curves_of = {f"{label}: loss, nats": [{"step": 1, "value": 1.0}, {"step": 9, "value": 0.5}]
                 for label in ("words", "annealed")}  # fmt: skip
    one = replace(
        report, curves={**curves_of, "annealed: p, share of the token embedding": curves_of["words: loss, nats"]}
    )
    loss, p = plot_curves(one).axes
    assert [axes.get_title(loc="left") for axes in (loss, p)] == ["loss, nats", "p, share of the token embedding"]
    assert [line.get_color() for line in p.lines] == [loss.lines[1].get_color()]
    over_k = plot_accuracy(report, curves(report.rows)[0]).axes[0]
    assert loss.lines[1].get_color() in {line.get_color() for line in over_k.lines}
    assert loss.lines[0].get_color() != loss.lines[1].get_color()


def test_an_svg_is_dark_where_the_reader_prefers_it(report):
    picture = render(plot_controls(report), "svg").decode()
    assert "prefers-color-scheme:dark" in picture
    drawn = set(re.findall(r"(?:fill|stroke): (#\w{6})", picture.split("</style>", 1)[1]))
    assert drawn <= plots.DARK.keys(), "no colour is left as it is on a light page"


@pytest.mark.parametrize("label", ["costs $5 or $6_", "推論なし", "x" * 200, "<svg onload=alert(1)>&"])
def test_any_label_can_be_drawn(report, controlled, label):
    points = [replace(point, label=label) for point in report.rows if point.label == "annealed"]
    odd = replace(report, rows=(*points, *controlled("other", 2, 0.5, 40, swap=30)), curves={label: []})
    for figure in figures(odd).values():
        render(figure, "png")
        assert b"<svg onload" not in render(figure, "svg")


def test_no_japanese_font_is_no_reason_to_fail(report, monkeypatch):
    monkeypatch.setattr(plots, "FONTS", ("DejaVu Sans",))
    assert render(plot_curves(replace(report, curves={"損失": [{"step": 1, "value": 1.0}]})), "png")


def test_the_same_report_gives_the_same_bytes_and_leaves_no_setting_behind(report):
    before = dict(matplotlib.rcParams)
    first, second = (render(plot_controls(report), "svg") for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_one_point_is_a_curve_too(report):
    only = replace(report, curves={"loss": [{"step": 1, "value": float("nan")}], "p": [{"step": 1, "value": 1.0}]})
    assert len(plot_curves(only).axes) == 2
