"""Steps of like length: every example once an epoch, little padding, still a matter of chance."""

import itertools
import random

import pytest

from latent_gemma.training.step_batches import grouped_by_length


def padding(order, lengths, size):
    """Share of the positions that are padding."""
    steps = [[lengths[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
    return 1 - sum(lengths) / sum(max(step) * len(step) for step in steps)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1003])
def test_every_example_comes_once_and_like_lengths_meet(count):
    lengths = [random.Random(i).randint(5, 200) for i in range(count)]
    order = grouped_by_length(lengths, 8, seed=3)
    assert sorted(order) == list(range(count))
    assert max(lengths) in [lengths[i] for i in order[:8]], "memory runs out at once, if it must"
    assert order == grouped_by_length(lengths, 8, seed=3)
    if count > 1000:  # there is little to choose from where a quarter of an epoch is a few steps
        assert padding(order, lengths, 8) < 0.35 * padding(range(count), lengths, 8)


def test_epochs_mix_their_steps_anew_and_lengths_follow_no_schedule():
    lengths = [random.Random(i).randint(5, 200) for i in range(1600)]
    epochs = [grouped_by_length(lengths, 8, seed) for seed in range(2)]
    steps = [{frozenset(order[i : i + 8]) for i in range(0, 1600, 8)} for order in epochs]
    assert len(steps[0] & steps[1]) < 5
    means = [sum(lengths[i] for i in epochs[0][at : at + 8]) / 8 for at in range(0, 1600, 8)]
    rises = sum(a < b for a, b in itertools.pairwise(means))
    assert 70 < rises < 130, "sorted within 50 steps, they would hardly ever rise"
