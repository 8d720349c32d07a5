"""A constant in place of each thought: one pass that equals K, a parameter that is there only where it is used."""

import pytest
import torch

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM, ThoughtRecord
from latent_gemma.model.halting import stop_margin
from latent_gemma.model.prompt import Frame, pad_left
from tests.conftest import THOUGHT, every_family


@pytest.fixture
def paused(make_model):
    """A model in double precision whose pause, and what acts on it, has moved away from its start."""

    def build(family="gemma2", **latent):
        model = make_model(family, dtype=torch.float64, fed="pause", **latent)
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if "pause" in name or "thought_" in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model

    return build


@every_family
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_one_pass_equals_k_passes(family, adapter, paused, make_model, true_double):
    model, other = paused(family, adapter=adapter), make_model(family, dtype=torch.float64, adapter=adapter)
    other.load_state_dict(model.state_dict(), strict=False)
    rows = [[20, 21, 7, 8, 8, 8, 9, 60], [30, 7, 8, 9, 61], [22, 23, 24, 7, 9, 62]]
    ids, mask = pad_left(rows, 0)
    calls, decode = [], model.model.decoder_call
    model.model.decoder_call = lambda **kwargs: calls.append(1) or decode(**kwargs)
    logits = model(ids, attention_mask=mask).logits
    assert len(calls) == 1
    pause = torch.nn.Parameter(model.model.pause.detach().clone())
    with other.thinking(forced=pause.expand(3, 3, -1)):
        passes = other(ids, attention_mask=mask).logits
    seen = mask.bool()
    torch.testing.assert_close(logits[seen], passes[seen], rtol=0.0, atol=1e-9)
    found, expected = (
        torch.autograd.grad(out[seen].log_softmax(-1)[:, 60].sum(), weight)[0]
        for out, weight in ((logits, model.model.pause), (passes, pause))
    )
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9)


def test_with_a_cache_each_thought_is_a_pass(paused, prompts, true_double):
    model, ids = paused(), prompts()
    whole = model(ids).logits
    cache, parts = None, []
    for part in (ids[:, :8], *ids[:, 8:].split(1, dim=1)):
        output = model(part, use_cache=True, cache=cache)
        cache = output.past_key_values if hasattr(output, "past_key_values") else output.cache
        parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0.0, atol=1e-9)


def test_what_was_thought_is_recorded_and_can_be_forced(paused, prompts):
    model, ids, record = paused(p=0.5), prompts(), ThoughtRecord()
    with model.thinking(record=record):
        hidden = model.model(ids, use_cache=False).last_hidden_state
    assert torch.equal(record.stacked_inputs(), model.model.pause.expand(3, 3, -1))
    assert torch.equal(torch.stack(record.source, 1), hidden[:, 6:9])
    assert torch.equal(torch.stack(record.hidden, 1), hidden[:, 7:10])
    assert record.tokens == []
    forced = torch.randn(3, 3, hidden.shape[-1], dtype=hidden.dtype)
    with model.thinking(forced=forced, record=record):
        model.model(ids, use_cache=False)
    assert torch.equal(torch.stack(record.inputs[3:], 1), forced)


@every_family
def test_a_pause_starts_as_the_mean_embedding_and_is_saved(family, make_model, tmp_path):
    plain = make_model(family)
    assert not [name for name, _ in plain.named_parameters() if "pause" in name]
    plain.save_pretrained(tmp_path / "plain")
    model = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path / "plain", latent={"fed": "pause"})
    embedded = model.model.embed_tokens(torch.arange(268))
    mean = embedded[embedded.any(-1)].mean(0)
    torch.testing.assert_close(model.model.pause, mean)
    model.model.pause.data += 1.0
    model.save_pretrained(tmp_path / "paused")
    loaded = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path / "paused", dtype=torch.bfloat16)
    assert torch.equal(loaded.model.pause, model.model.pause)
    assert loaded.model.pause.dtype == torch.float32
    ids, again = torch.randint(12, 260, (2, 9)), LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path / "plain")
    assert torch.equal(model(ids).logits, again(ids).logits), "without thoughts nothing has changed"


def test_a_pause_alone_can_train(make_model):
    model = make_model(fed="pause", trains="thoughts")
    assert model.freeze_phases() == 32
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["model.pause"]


def test_a_pause_is_built_and_waits_for_nothing(make_model):
    with pytest.raises(ConfigError, match=r"latent\.fed cannot become 'pause' in a model that is built"):
        make_model().set_latent(fed="pause")
    with pytest.raises(ConfigError, match="'pause' with recurrence 'sequence'"):
        LatentConfig(fed="pause", recurrence="sequence")


def test_generation_takes_it(paused, prompts):
    model, ids = paused(), prompts()
    generated = model.generate(ids, max_new_tokens=4, do_sample=False)
    for length in range(ids.shape[1], generated.shape[1]):
        logits = model(generated[:, :length]).logits[:, -1]
        logits[:, THOUGHT] = -torch.inf
        assert torch.equal(logits.argmax(-1), generated[:, length])


def test_the_model_that_takes_it_ends_its_thinking_itself(paused, tokenizer):
    model = paused(learned_k=True, max_thoughts=3)
    frame, found = Frame(tokenizer, model.config.latent), []
    for question in ("1+2=", "3*4-5=", "7="):
        answers = answer_batch(model, frame, [question], "latent", "auto", max_new_tokens=3)
        found.append(answers.num_thoughts[0])
        ids = torch.tensor([frame.prompt(question, "latent", 3)])
        margins = stop_margin(model(ids).logits[0, -5:-1], frame.latent.eot_id)
        expected = next((k for k in range(3) if margins[k] > 0), 3)
        assert found[-1] == expected
        again = answer_batch(model, frame, [question], "latent", expected, max_new_tokens=3)
        assert again.answers == answers.answers
