from dataclasses import replace

import pytest

from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.verdict import uses_thoughts, verdict


def test_verdict_of_a_whole_report(rows):
    assert verdict(rows) == (
        "COCONUT is not using its thoughts: intact 34.2 %, zeroed 33.2 %, swapped 33.6 % "
        "(95 % intervals of zeroed and swapped reach that of intact, n = 500); "
        "annealed uses its thoughts: intact 96.2 %, zeroed 11.6 %, swapped 10.4 %. "
        "Compared with no reasoning (12.2 %), COCONUT is better (34.2 %), annealed is better (96.2 %). "
        "Compared with words (98.8 % at 41.7 passes an answer), COCONUT is worse (34.2 % at 7.2 passes an answer), "
        "annealed is not clearly different (96.2 % at 8.2 passes an answer)."
    )


@pytest.mark.parametrize(
    ("controls", "used"),
    [
        ({"zero": 60, "swap": 52}, True),
        ({"zero": 478, "swap": 52}, False),
        ({"zero": 60, "swap": 476}, False),
        ({"zero": 495}, False),
        ({"swap": 60}, True),
        ({"noise": 60, "pause": 60}, None),
        ({}, None),
    ],
)
def test_thoughts_are_used_only_if_zeros_and_swaps_both_hurt(controlled, controls, used):
    rows = controlled("annealed", 4, 0.0, 481, **controls)
    assert uses_thoughts(rows, main_rows(rows)["annealed"]) is used
    text = verdict(rows)
    assert ("annealed is not using its thoughts: intact 96.2 %" in text) == (used is False)
    assert ("annealed uses its thoughts: intact 96.2 %" in text) == (used is True)
    assert ("nothing shows whether it uses them" in text) == (used is None)


def test_only_the_surviving_control_is_named(controlled):
    text = verdict(controlled("annealed", 4, 0.0, 481, zero=60, swap=476))
    assert "(95 % intervals of swapped reach that of intact, n = 500)" in text


def test_without_latent_methods_accuracies_are_stated(bare):
    assert verdict(bare.rows) == "Accuracy with 95 % interval: words 90.0 [78.6–95.7] % (n = 50)."


def test_nothing_measured():
    assert verdict(()) == "Nothing was measured."


def test_methods_are_held_against_what_was_asked_in_words_whatever_it_is_called(row):
    rows = [
        row("sft", 0, 490, tokens=40.0), row("sft, vote", 0, 495), row("plain", 0, 60),
        row("annealed", 4, 480), row("annealed", 4, 50, control="zero"), row("annealed", 4, 50, control="swap"),
    ]  # fmt: skip
    modes = ("words", "words", "none", "latent", "latent", "latent")
    said = verdict([replace(each, mode=mode) for each, mode in zip(rows, modes, strict=True)])
    assert "Compared with plain (12.0 %), annealed is better (96.0 %)." in said
    assert "Compared with sft (98.0 % at 40.0 passes an answer), annealed is not clearly different" in said
    assert "vote" not in said
