"""Curricula are functions of progress; these are their tables."""

from dataclasses import replace

import pytest

from latent_gemma.training.curriculum import (
    ALL_STEPS,
    AnnealCurriculum,
    CoconutCurriculum,
    InternalizeCurriculum,
    WrittenCurriculum,
)


def test_coconut_divides_the_run_into_shares_of_which_the_last_stage_takes_two():
    curriculum = CoconutCurriculum(first_stage=1, max_latent_stage=3)
    numbers = [curriculum.stage_at(step / 400, passes=9.0).number for step in range(400)]
    assert [numbers.count(stage) for stage in (1, 2, 3)] == [100, 100, 200]
    assert numbers == sorted(numbers)
    assert curriculum.stage_at(0.3, 1.0).latent_steps == 2
    assert curriculum.stage_at(0.3, 1.0).keeps_rest


def test_coconut_epochs_per_stage_counts_passes_over_the_data():
    curriculum = CoconutCurriculum(first_stage=0, max_latent_stage=2, epochs_per_stage=2.0)
    assert [curriculum.stage_at(0.0, passes).number for passes in range(8)] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [curriculum.stage_at(0.0, step / 3).number for step in range(5, 8)] == [0, 1, 1], "a third of a pass a step"


def test_coconut_final_stage_drops_the_rest_and_pads_thoughts_when_asked():
    curriculum = CoconutCurriculum(max_latent_stage=2, final_stages=1, pad_latent_to_max=True, uniform_prob=0.3)
    before, after = curriculum.stage_at(0.3, 1.0), curriculum.stage_at(0.99, 1.0)
    assert (before.number, before.latent_steps, before.pad_thoughts) == (2, 2, False)
    assert (after.number, after.latent_steps, after.pad_thoughts) == (3, ALL_STEPS, True)
    assert after.max_thought_steps == 2
    assert after.mix_prob == 0.3


@pytest.mark.parametrize(
    ("shape", "progress", "expected"),
    [("linear", 0.0, 0.9), ("linear", 0.35, 0.45), ("linear", 0.7, 0.0), ("linear", 1.0, 0.0),
     ("cosine", 0.0, 0.9), ("cosine", 0.35, 0.45),
     ("cosine", 0.175, 0.9 * (0.5 + 0.5 * 2**-0.5)), ("cosine", 0.9, 0.0)],
)  # fmt: skip
def test_p_falls_from_start_to_end(shape, progress, expected):
    assert AnnealCurriculum(p_shape=shape).stage_at(progress).p == pytest.approx(expected, abs=1e-12)


def test_k_grows_and_the_anchor_fades():
    curriculum = AnnealCurriculum(grow_until=0.5, anchor_weight=2.0, anchor_until=0.8)
    grown = [curriculum.stage_at(x, longest=4) for x in (0.0, 0.125, 0.2, 0.3, 0.45, 0.9)]
    assert [stage.max_thought_steps for stage in grown] == [1, 1, 2, 3, 4, 4]
    assert [stage.latent_steps for stage in grown] == [1, 1, 2, 3, ALL_STEPS, ALL_STEPS]
    assert not any(stage.pad_thoughts for stage in grown)
    assert all(stage.halt_weight == 1.0 for stage in grown)
    fixed = AnnealCurriculum(learn_k=False).stage_at(0.5, longest=4)
    assert (fixed.pad_thoughts, fixed.halt_weight) == (True, 0.0)
    assert [curriculum.stage_at(x).anchor_weight for x in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([2.0, 1.0, 0.0, 0.0])
    assert AnnealCurriculum().stage_at(0.0, longest=4).max_thought_steps == 4
    assert AnnealCurriculum(max_latent_steps=3).stage_at(0.0, longest=8).max_thought_steps == 3


def test_shares_are_worked_through_in_equal_parts():
    shares = [AnnealCurriculum(compress="1.0,0.5, 0.25").stage_at(step / 300).thoughts_per_token for step in range(301)]
    assert [shares.count(share) for share in (1.0, 0.5, 0.25)] == [100, 100, 101]
    assert shares == sorted(shares, reverse=True)
    assert AnnealCurriculum().stage_at(0.5).thoughts_per_token is None


def test_internalized_stages_are_those_of_coconut_without_thoughts():
    settings = {"first_stage": 0, "max_latent_stage": 2, "final_stages": 1, "uniform_prob": 0.2, "stage_mixing": True}
    ours, theirs = InternalizeCurriculum(**settings), CoconutCurriculum(**settings, learn_k=False)
    for done in range(100):
        stage, other = ours.stage_at(done / 100, 0.0), theirs.stage_at(done / 100, 0.0)
        assert stage == replace(other, max_thought_steps=0)
        assert not stage.thinks
        assert [stage.mode(3), other.mode(3)] == [["words", "words", "words", "none"][stage.number],
                                                  ["words", "latent", "latent", "latent"][stage.number]]  # fmt: skip


def test_k_is_learnt_where_nothing_is_written_behind_thoughts():
    curriculum = CoconutCurriculum(max_latent_stage=2, final_stages=1)
    before, after = curriculum.stage_at(0.4, 0.0), curriculum.stage_at(0.9, 0.0)
    assert [before.learns_k(longest) for longest in (1, 2, 3)] == [True, True, False]
    assert after.learns_k(3)
    assert not after.learns_k(0), "nothing to think about"
    assert not replace(after, halt_weight=0.0).learns_k(3)


def test_the_gate_holds_p_while_the_loss_is_high():
    curriculum = AnnealCurriculum(p_shape="gated", gate_loss=0.5)
    held = curriculum.advance(0.2, smoothed_loss=0.6, step=0.1)
    moved = curriculum.advance(0.2, smoothed_loss=0.4, step=0.1)
    assert (held, moved) == (0.2, pytest.approx(0.3))
    assert curriculum.advance(0.95, 0.0, 0.1) == 1.0
    assert curriculum.stage_at(0.9, position=0.0).p == 0.9
    assert curriculum.stage_at(0.9, position=0.7).p == 0.0


def test_the_written_stage_never_changes():
    assert WrittenCurriculum("words").stage_at().keeps_rest
    assert not WrittenCurriculum("none").stage_at().keeps_rest
