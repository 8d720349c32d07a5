from dataclasses import replace

import pytest

from latent_gemma.inspection.select import (
    control_rows,
    curves,
    is_trained_pause,
    main_rows,
    reference_rows,
)


def test_main_row_is_the_first_with_intact_thoughts(row):
    control, main, other = row("a", 3, 10, control="zero", p=0.0), row("a", 3, 90, p=0.0), row("a", 5, 95, p=0.0)
    assert main_rows([control, main, other]) == {"a": main}
    assert main_rows([control]) == {}


def test_controls_belong_to_the_setting_of_the_main_row(row):
    main = row("a", 3, 90, p=0.0)
    zero = row("a", 3, 10, control="zero", p=0.0)
    elsewhere = row("a", 4, 50, control="swap", p=0.0), row("b", 3, 50, control="noise", p=0.0)
    without = row("a", 0, 12)
    assert control_rows([main, *elsewhere, without, zero], main) == {"zero": zero, "k0": without}
    assert list(control_rows([main, without, zero], main)) == ["zero", "k0"]


def test_a_label_without_latent_steps_has_no_controls_and_no_curves(row):
    words = row("words", 0, 90)
    assert control_rows([words], words) == {}
    assert curves([words, words]) == ()


def test_curves_hold_the_other_setting_still(rows):
    over_k, over_p = curves(rows)
    assert (over_k.name, over_p.name) == ("accuracy_over_k", "accuracy_over_p")
    assert [at for at, _ in over_k.lines["annealed"]] == [0, 1, 2, 3, 4, 5, 6]
    assert [at for at, _ in over_p.lines["annealed"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {row.p for _, row in over_k.lines["annealed"][1:]} == {0.0}
    assert all(at == row.k and row.control == "none" for line in over_k.lines.values() for at, row in line)
    assert all(at == row.p and row.control == "none" for line in over_p.lines.values() for at, row in line)


def test_controls_with_a_strength_are_curves_between_what_is_measured_anyway(controlled, row):
    def at(control, correct):
        return row("a", 3, correct, control=control, p=0.0)

    main, *others = controlled("a", 3, 0.0, 90, swap=10, zero=12)
    rows = [main, *others, at("noise_2", 20), at("noise_0.25", 80), at("keep_2", 70), at("keep_1", 30), row("a", 0, 9)]
    found = {curve.name: [(x, point.correct) for x, point in curve.lines["a"]] for curve in curves(rows)}
    assert found == {
        "accuracy_over_k": [(0, 9), (3, 90)],
        "accuracy_over_noise": [(0, 90), (0.25, 80), (2, 20)],
        "accuracy_over_kept": [(0, 10), (1, 30), (2, 70), (3, 90)],
    }
    assert set(control_rows(rows, main)) == {"swap", "zero", "k0"}


def test_a_chosen_k_is_no_point_of_the_curve_over_k(controlled, row):
    main, swap = (replace(each, k="auto") for each in controlled("a", 3, 0.0, 90, swap=10))
    stop, keep = (replace(row("a", 3, 40, control=name, p=0.0), k="auto") for name in ("stop_1", "keep_1"))
    rows = [main, row("a", 0, 9), row("a", 2, 50, p=0.0), swap, stop, keep]
    over_k, kept, stopped = curves(rows)
    assert [at for at, _ in over_k.lines["a"]] == [0, 2]
    assert over_k.chosen == {"a": main}
    assert [(at, point.correct) for at, point in kept.lines["a"]] == [(0, 10), (1, 40)]
    assert [(at, point.correct) for at, point in stopped.lines["a"]] == [(0, 9), (1, 40)]
    assert control_rows(rows, main)["swap"] == swap


@pytest.mark.parametrize(
    ("label", "is_pause"),
    [("pause", True), ("Pause, one pass", True), ("pause:latent", True), ("pauses", False), ("annealed", False)],
)
def test_a_trained_pause_is_told_by_its_name(label, is_pause):
    assert is_trained_pause(label) is is_pause


def test_references_are_the_methods_without_latent_steps(rows, row):
    assert list(reference_rows(rows)) == ["no reasoning", "words"]
    without = row("a", 0, 12)
    assert reference_rows([row("a", 3, 90, p=0.0), without]) == {"no thoughts (K=0)": without}
