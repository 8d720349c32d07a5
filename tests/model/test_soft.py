"""The token part of what is fed back: one token's embedding, or the mean of the most probable ones'."""

import pytest
import torch

from latent_gemma.model import LatentConfig, ThoughtRecord
from latent_gemma.model.feedback import token_part
from tests.conftest import EOT, FAMILIES, THOUGHT

every_family = pytest.mark.parametrize("family", FAMILIES)


def plain_mean(logits, table, top_k, temperature):
    """The mean written plainly, for one position: sort, cut, weigh."""
    allowed = [token for token in range(len(logits)) if token not in (THOUGHT, EOT)]
    best = sorted(allowed, key=lambda token: -logits[token].item())[:top_k]
    weights = [torch.exp((logits[token] - logits[best[0]]) / temperature) for token in best]
    return sum(weight / sum(weights) * table[token] for weight, token in zip(weights, best, strict=True))


@pytest.mark.parametrize("top_k", [1, 3, 20, 1000])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_mean_is_that_of_a_plain_reference(top_k, temperature):
    generator = torch.Generator().manual_seed(0)
    logits, table = (3 * torch.randn(*shape, generator=generator).double() for shape in ((2, 3, 40), (40, 5)))
    logits[..., [THOUGHT, EOT]] = 50.0
    given = logits.clone()
    tokens, mean = token_part(
        logits,
        lambda ids: table[ids],
        LatentConfig(token="soft", soft_top_k=top_k, soft_temperature=temperature),
    )
    assert torch.equal(logits, given)
    assert mean.dtype == torch.float64
    for row in range(2):
        for column in range(3):
            wanted = plain_mean(logits[row, column], table, top_k, temperature)
            torch.testing.assert_close(mean[row, column], wanted, rtol=1e-12, atol=1e-12)
    logits[..., [THOUGHT, EOT]] = -torch.inf
    assert torch.equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("cold", [{"soft_top_k": 1}, {"soft_temperature": 1e-9}], ids=["one token", "temperature 0"])
def test_of_one_token_or_at_no_temperature_it_is_the_most_probable_token(cold):
    generator = torch.Generator().manual_seed(1)
    logits, table = (torch.randn(*shape, generator=generator).double() for shape in ((7, 40), (40, 5)))
    logits[:, [THOUGHT, EOT]] = 50.0
    tokens, embedding = token_part(logits, lambda ids: table[ids], LatentConfig())
    assert torch.equal(embedding, table[tokens])
    assert not torch.isin(tokens, torch.tensor([THOUGHT, EOT])).any()
    same, mean = token_part(logits, lambda ids: table[ids], LatentConfig(token="soft", **cold))
    assert torch.equal(same, tokens)
    torch.testing.assert_close(mean, embedding)


def test_with_gumbel_noise_of_scale_one_a_single_token_is_a_sample():
    # Gumbel's trick: the largest of logits and noise is a draw from their softmax
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0] + [-torch.inf] * 6).repeat(20_000, 1)
    table = torch.eye(10)
    latent = LatentConfig(token="soft", soft_top_k=1, soft_gumbel=1.0)
    tokens, drawn = token_part(logits, lambda ids: table[ids], latent)
    assert (tokens == 0).all(), "what is reported is the most probable token, not the draw"
    torch.testing.assert_close(drawn.mean(0)[:4], logits[0, :4].softmax(-1), rtol=0, atol=0.015)


@every_family
@pytest.mark.parametrize("recurrence", ["append", "sequence", "parallel"])
def test_a_cold_soft_model_feeds_back_what_greedy_decoding_writes(family, recurrence, make_model, prompts):
    model, ids = make_model(family, p=1.0, recurrence=recurrence), prompts(thoughts=4)
    greedy = model(ids).logits
    model.set_latent(token="soft", soft_top_k=1)
    torch.testing.assert_close(model(ids).logits, greedy)
    model.set_latent(soft_top_k=20, soft_temperature=1e-6)
    torch.testing.assert_close(model(ids).logits, greedy, rtol=1e-3, atol=1e-3)
    model.set_latent(soft_temperature=1.0)
    assert not torch.allclose(model(ids).logits[:, -1], greedy[:, -1], atol=1e-3)


@every_family
def test_what_is_fed_back_is_the_mean_of_what_the_head_says(family, make_model, prompts):
    # float64 all through, for a reference that knows nothing of ours
    model = make_model(family, p=0.7, token="soft", soft_top_k=5, soft_temperature=0.8, dtype=torch.float64)
    record = ThoughtRecord()
    with model.thinking(record=record), torch.no_grad():
        model(prompts(batch=2))
        table = model.model.embed_tokens(torch.arange(model.config.vocab_size))
        for source, fed, tokens in zip(record.source, record.inputs, record.tokens, strict=True):
            logits = model.project(source)
            for row in range(2):
                mean = plain_mean(logits[row], table, 5, 0.8)
                unit = source[row] / (source[row].pow(2).mean() + 1e-12).sqrt()
                wanted = 0.7 * mean + 0.3 * unit * model.config.latent.embed_rms
                torch.testing.assert_close(fed[row], wanted, rtol=1e-9, atol=1e-9)
                assert tokens[row] == max(
                    set(range(len(table))) - {THOUGHT, EOT}, key=lambda t, r=row: logits[r, t].item()
                )


def test_gradients_pass_the_latent_and_not_the_mean(make_model, prompts):
    model = make_model(p=1.0, token="soft", bridge="linear").train()
    ids = prompts(answer=1)
    record = ThoughtRecord()
    with model.thinking(record=record):
        model(ids)
    assert not any(fed.requires_grad for fed in record.inputs)
    with model.thinking(record=record, p=0.5):
        model(ids, labels=torch.where(torch.arange(ids.shape[1]) == ids.shape[1] - 1, ids, -100)).loss.backward()
    assert model.model.bridge.out.weight.grad.abs().max() > 0


def test_a_saved_model_keeps_its_way_and_an_older_configuration_reads_as_before(make_model, tmp_path):
    model = make_model(token="soft", soft_top_k=7, recurrence="parallel", parallel_passes=2)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).config.latent
    assert (again.token, again.soft_top_k, again.recurrence, again.parallel_passes) == ("soft", 7, "parallel", 2)
    older = {
        name: value for name, value in again.to_dict().items() if not name.startswith(("soft", "token", "parallel"))
    }
    latent = LatentConfig.from_value({**older, "recurrence": "append"})
    assert (latent.token, latent.parallel_passes) == ("argmax", None)
