"""The choice of a token: the distribution it claims, exactly."""

import pytest
import torch

from latent_gemma.generation.sample import choose


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("vocabulary", [37, 192])  # blocks of 1 and of 64
def test_each_token_gets_its_share_of_the_unit_interval(temperature, vocabulary):
    draws, scores = 20_000, torch.randn(vocabulary, generator=torch.Generator().manual_seed(0))
    scores[5] = float("-inf")
    uniform = (torch.arange(draws) + 0.5) / draws
    tokens, logprobs = choose(scores.expand(draws, -1).clone(), torch.full((draws,), temperature), uniform)
    expected = (scores / temperature).softmax(-1) * draws
    counts = torch.bincount(tokens, minlength=vocabulary)
    assert (counts - expected).abs().max() < 1.5  # a token's share begins and ends between two grid points
    assert counts[5] == 0
    assert torch.allclose(logprobs, scores.log_softmax(-1)[tokens], atol=1e-5)


def test_rows_of_temperature_zero_take_the_best_whatever_is_drawn():
    scores = torch.randn(6, 11, generator=torch.Generator().manual_seed(1))
    temperatures = torch.tensor([0.0, 100.0] * 3)
    tokens, _ = choose(scores.clone(), temperatures, torch.full((6,), 0.999))
    assert torch.equal(tokens[::2], scores.argmax(-1)[::2])
    assert not torch.equal(tokens[1::2], scores.argmax(-1)[1::2])


def test_what_has_no_probability_is_never_chosen():
    scores = torch.full((3, 50), float("-inf"))
    scores[:, 20] = 0.0
    tokens, logprobs = choose(scores, torch.ones(3), torch.tensor([0.0, 0.5, 1.0 - 2**-24]))
    assert tokens.tolist() == [20] * 3
    assert logprobs.tolist() == [0.0] * 3
