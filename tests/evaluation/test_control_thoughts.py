"""What controls put into the thought positions, on thoughts small enough to be read."""

import random
from itertools import permutations

import pytest
import torch

from latent_gemma.evaluation.control_thoughts import ControlThoughts, deranged, find_donors

PAUSE = torch.tensor([[9.0, 9.0]])


def thoughts(*values):
    """One thought of two components a value."""
    return torch.tensor([[value, value] for value in values], dtype=torch.float32).reshape(-1, 2)


def read(given):
    return [[row[0] for row in one.tolist()] for one in given]


@pytest.mark.parametrize(
    ("lengths", "donors"),
    [
        ([2, 2, 2], [1, 2, 0]),
        ([1, 2, 1, 2], [2, 3, 0, 1]),
        ([3, 1, 2, 1], [1, 3, 3, 1]),
        ([3, 0, 2], [2, 2, 0]),
        ([3, 0, 0], [1, 2, 1]),
        ([4], [0]),
    ],
)
def test_a_donor_has_as_many_thoughts_where_one_has(lengths, donors):
    assert find_donors(lengths) == donors


def test_thoughts_of_another_number_are_cut_or_repeated():
    controls = ControlThoughts([thoughts(1, 2, 3), thoughts(4), thoughts(5, 6)], PAUSE, 0)
    assert read(controls.of("swap")) == [[4, 4, 4], [5], [1, 2]]
    assert read(controls.of("keep_1")) == [[1, 4, 4], [4], [5, 2]]
    assert read(controls.of("keep_2")) == [[1, 2, 4], [4], [5, 6]]
    assert read(controls.of("stop_2")) == [[1, 2], [4], [5, 6]]
    assert read(controls.of("pause")) == [[9, 9, 9], [9], [9, 9]]
    assert read(controls.of("zero")) == [[0, 0, 0], [0], [0, 0]]


def test_where_nobody_else_thinks_zeros_are_swapped_in():
    assert read(ControlThoughts([thoughts(1, 2), thoughts()], PAUSE, 0).of("swap")) == [[0, 0], []]


def test_positions_of_a_prompt_are_swapped_as_they_are():
    controls = ControlThoughts([thoughts(1, 2, 3), thoughts(4), thoughts(5, 6, 7)], PAUSE, 0, aligned=False)
    assert read(controls.of("swap")) == [[4], [5, 6, 7], [1, 2, 3]]


def test_no_thought_stays_in_its_place():
    for count in range(2, 7):
        controls = ControlThoughts([thoughts(*range(count))] * 5, PAUSE, 1)
        for (one,) in zip(read(controls.of("permute")), strict=True):
            assert sorted(one) == list(range(count))
            assert all(value != place for place, value in enumerate(one))
    assert read(ControlThoughts([thoughts(3)], PAUSE, 1).of("permute")) == [[3]]


def test_every_derangement_is_as_likely():
    rng, counts = random.Random(0), {}
    for _ in range(9000):
        order = tuple(deranged(4, rng))
        counts[order] = counts.get(order, 0) + 1
    wanted = {order for order in permutations(range(4)) if all(order[place] != place for place in range(4))}
    assert counts.keys() == wanted
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_a_dose_of_noise_is_in_units_of_each_thoughts_rms():
    torch.manual_seed(0)
    own = [torch.randn(3, 4096) * torch.tensor([[1.0], [10.0], [0.1]])]
    controls = ControlThoughts(own, torch.zeros(1, 4096), 5)
    for dose in (0.25, 2.0):
        (given,) = controls.of(f"noise_{dose:g}")
        added = (given - own[0]).pow(2).mean(-1).sqrt() / own[0].pow(2).mean(-1).sqrt()
        torch.testing.assert_close(added, torch.full((3,), dose), rtol=0.05, atol=0)
    (low,), (high,) = controls.of("noise_0.25"), controls.of("noise_2")
    torch.testing.assert_close(8 * (low - own[0]), high - own[0], rtol=1e-3, atol=1e-3)
    (replaced,) = controls.of("noise")
    torch.testing.assert_close(replaced.norm(dim=-1), own[0].norm(dim=-1))


def test_the_seed_decides():
    own = [torch.ones(4, 8), torch.ones(4, 8)]
    first, same, other = (ControlThoughts(own, torch.zeros(1, 8), seed).of("noise") for seed in (0, 0, 1))
    assert torch.equal(first[1], same[1])
    assert not torch.equal(first[1], other[1])
    assert not torch.equal(first[0], first[1])


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match="no control 'keep'"):
        ControlThoughts([thoughts(1)], PAUSE, 0).of("keep")
