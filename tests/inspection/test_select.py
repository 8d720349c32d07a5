from latent_gemma.inspection.select import (
    control_rows,
    curves_over_k,
    curves_over_p,
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
    assert curves_over_k([words, words]) == curves_over_p([words, words]) == {}


def test_curves_hold_the_other_setting_still(rows):
    assert [point.k for point in curves_over_k(rows)["annealed"]] == [0, 1, 2, 3, 4, 5, 6]
    assert [point.p for point in curves_over_p(rows)["annealed"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {point.p for point in curves_over_k(rows)["annealed"][1:]} == {0.0}
    assert {point.control for curve in curves_over_k(rows).values() for point in curve} == {"none"}


def test_references_are_the_methods_without_latent_steps(rows, row):
    assert list(reference_rows(rows)) == ["no reasoning", "words"]
    without = row("a", 0, 12)
    assert reference_rows([row("a", 3, 90, p=0.0), without]) == {"no thoughts (K=0)": without}
