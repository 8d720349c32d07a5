from dataclasses import replace

import pytest

from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.verdict import uses_thoughts, verdict


def test_verdict_of_a_whole_report(rows):
    assert verdict(rows) == (
        "COCONUT is not using its thoughts: intact 34.2 %, swapped 33.6 %, zeroed 33.2 % "
        "(95 % intervals of swapped and zeroed reach that of intact, n = 500). "
        "annealed uses its thoughts: swapping them takes 85.8 points (intact 96.2 %, swapped 10.4 %, zeroed 11.6 %). "
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
    how = "swapping them takes" if "swap" in controls else "zeroing them takes"
    assert (f"annealed uses its thoughts: {how}" in text) == (used is True)
    assert ("nothing shows whether it uses them" in text) == (used is None)


def test_answers_cut_off_at_the_bound_are_told_of(controlled):
    rows = controlled("annealed", 4, 0.0, 481, zero=60, swap=52)
    words = replace(rows[0], label="words", k=0, mode="words", correct=100)
    for cut, told in ((0, False), (49, False), (50, True), (499, True)):
        for mains in (rows, []):
            text = verdict([*mains, replace(words, truncated=cut)])
            assert ("Answers cut off at --max-new-tokens: words" in text) is told
            assert text.endswith(f"words ({cut / 5:.1f} %); under a higher bound more may be right.") is told


def test_only_the_surviving_control_is_named(controlled):
    text = verdict(controlled("annealed", 4, 0.0, 481, zero=60, swap=476))
    assert "(95 % intervals of swapped reach that of intact, n = 500)" in text


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (0.85, "; what they carry is the answer itself: the donor's answer came in 85.0 % of 450."),
        (0.12, "; they do not carry the whole answer: the donor's answer came in 12.0 % of 450."),
        (None, "zeroed 12.0 %)."),
    ],
)
def test_the_donors_answer_tells_what_thoughts_carry(controlled, rate, says):
    rows = controlled("annealed", 4, 0.0, 481, zero=60, swap=52)
    rows = [replace(row, donor_rate=rate, donor_total=450) if row.control == "swap" else row for row in rows]
    assert verdict(rows).endswith(says)


@pytest.mark.parametrize(
    ("right", "says"),
    [
        (60, "a trained pause reaches 12.0 %: 84.2 points are due to what the thoughts hold."),
        (475, "a trained pause does as well (95.0 %): extra positions explain it."),
        (500, "a trained pause does better (100.0 %): extra positions explain it."),
    ],
)
def test_a_trained_pause_decides_what_positions_alone_would_do(controlled, row, right, says):
    rows = [*controlled("annealed", 4, 0.0, 481, zero=60, swap=52), *controlled("pause", 4, 0.0, right, swap=right)]
    text = verdict(rows)
    assert says in text
    assert f"pause takes as many positions without a thought in them: {right / 5:.1f} %." in text
    assert uses_thoughts(rows, main_rows(rows)["pause"]) is None
    assert text.count("a trained pause") == 1, "it is not held against itself"


def test_how_well_k_is_chosen_is_said(controlled):
    main, *others = controlled("annealed", 4, 0.0, 481, swap=52)
    chosen = replace(main, k="auto", k_table=((1, 1, 100), (2, 2, 380), (2, 3, 20)))
    text = verdict([chosen, *(replace(row, k="auto") for row in others)])
    assert "it takes as many thoughts as the steps ask for in 96.0 % of answers" in text


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
