"""Recurrence "parallel": with as many passes as thoughts it is "append", with fewer a plain Jacobi iteration."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from latent_gemma.fast.steps import FastSteps
from latent_gemma.model import ThoughtRecord
from latent_gemma.model.gemma import is_latent_parameter
from latent_gemma.model.prompt import pad_left
from tests.conftest import BOT, EOT, FAMILIES, THOUGHT

every_family = pytest.mark.parametrize("family", FAMILIES)
#: Ragged questions, ragged numbers of thoughts (none in one row, two blocks in another), ragged answers.
ROWS = [
    [20, 21, 22, 23, BOT, THOUGHT, THOUGHT, THOUGHT, EOT, 40, 41],
    [30, BOT, THOUGHT, EOT, 42],
    [50, 51, BOT, EOT, 43, 44, 45],
    [60, 61, 62, BOT, THOUGHT, THOUGHT, EOT, 46],
    [70, BOT, THOUGHT, 71, THOUGHT, EOT, 47],
]
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def moved(model):
    """The model with a latent part that is not the identity, and weights that make thoughts differ much."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = 0.2 if is_latent_parameter(name) else 0.05
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * std)
    return model


@pytest.fixture
def pair(make_model, true_double):
    """Two models of the same weights, thinking one after the other and at once: pair(family, passes, **latent)."""

    def build(family="gemma2", passes=None, sliding_window=4096, num_layers=2, **latent):
        sizes = {"sliding_window": sliding_window, "num_layers": num_layers, "dtype": torch.float64}
        one = moved(make_model(family, **sizes, **latent))
        other = make_model(family, **sizes, recurrence="parallel", parallel_passes=passes, **latent)
        other.load_state_dict(one.state_dict())
        other.config.latent = type(other.config.latent)(
            **{**other.config.latent.to_dict(), "embed_rms": one.config.latent.embed_rms}
        )
        return one, other

    return build


def thoughts_and_logits(model, ids, mask, **settings):
    record = ThoughtRecord()
    with model.thinking(record=record, **settings):
        output = model(ids, attention_mask=mask, use_cache=False)
    return record, output.logits


@every_family
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("forced", [False, True])
def test_with_as_many_passes_as_thoughts_it_is_append(family, p, forced, pair):
    one, other = pair(family, p=p, bridge="mlp", adapter="lora")
    ids, mask = pad_left(ROWS, 0)
    settings = {"forced": torch.randn(len(ROWS), 3, 32, dtype=torch.float64)} if forced else {}
    record, logits = thoughts_and_logits(one, ids, mask, **settings)
    own, found = thoughts_and_logits(other, ids, mask, **settings)
    seen = mask.bool()
    torch.testing.assert_close(found[seen], logits[seen], **EXACT)
    assert len(own.mask) == len(record.mask) == len(own.source)
    for step, thinks in enumerate(record.mask):
        assert torch.equal(own.mask[step], thinks)
        for name in ("source", "inputs", "hidden", *(["tokens"] if p else [])):
            value, wanted = (getattr(part, name)[step][thinks] for part in (own, record))
            torch.testing.assert_close(value, wanted, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@every_family
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_its_gradients_are_those_of_append(family, p, checkpointing, pair):
    one, other = pair(family, p=p, bridge="mlp", adapter="lora")
    ids, mask = pad_left(ROWS, 0)
    # what padding says is nobody's business: no label on a row's first token
    labels = torch.where((mask.cumsum(-1) > 1) & (ids > EOT), ids, -100)

    def gradients(model):
        record = ThoughtRecord()
        with model.train().thinking(record=record):
            model(ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        return {name: q.grad for name, q in model.named_parameters() if q.grad is not None}, record.grad_norms

    reference, norms = gradients(one)
    if checkpointing:
        other.activation_checkpointing_enable()
    own, found = gradients(other)
    assert own.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(own[name], value, **EXACT, msg=lambda text, name=name: f"{name}: {text}")
    assert found.keys() == norms.keys()
    for step, norm in norms.items():
        torch.testing.assert_close(found[step], norm, rtol=1e-6, atol=1e-9)


def plain_jacobi(model, ids, passes, p):
    """The passes written plainly for one row: no cache, the whole sequence again each time."""
    decoder, latent = model.model, model.config.latent
    thought = (ids[0] == THOUGHT).nonzero().flatten().tolist()
    # the state before the first thought, which nothing that comes later changes
    before = decoder(inputs_embeds=decoder.embed_tokens(ids[:, : thought[0]]), use_cache=False).last_hidden_state[:, -1]
    states = None
    for _ in range(passes):
        embeds = decoder.embed_tokens(ids).clone()
        for column in thought if states is not None else thought[:1]:
            hidden = before if column == thought[0] else states[:, column - 1]
            unit = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
            norm, out = decoder.bridge.norm, decoder.bridge.out
            normed = nn.functional.layer_norm(unit, unit.shape[-1:], norm.weight, norm.bias)
            fed = (unit + normed @ out.weight.T + out.bias) * latent.embed_rms
            logits = model.project(hidden)
            logits[:, [THOUGHT, EOT]] = -torch.inf
            embeds[:, column] = p * decoder.embed_tokens(logits.argmax(-1)).detach() + (1 - p) * fed
        # the embedding of the thought token would be taken for a thought
        stock = super(type(decoder).__mro__[2], decoder).forward
        states = stock(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return model.project(states)


@every_family
@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_fewer_passes_are_a_plain_jacobi_iteration(family, passes, p, pair, prompts):
    _, model = pair(family, passes, bridge="linear", p=p)
    ids = prompts(batch=1, thoughts=4, answer=2)
    with torch.no_grad():
        found, wanted = model(ids).logits, plain_jacobi(model, ids, passes, p)
    torch.testing.assert_close(found, wanted, **EXACT)
    one, _ = pair(family, bridge="linear", p=p)
    assert not torch.allclose(found[:, -1], one(ids).logits[:, -1], atol=1e-4)


@every_family
@pytest.mark.parametrize("passes", [1, 2])
def test_a_batch_is_its_rows_on_either_side_of_the_padding(family, passes, pair):
    _, model = pair(family, passes, bridge="mlp", adapter="lora", p=0.3)
    ids, mask = pad_left(ROWS, 0)
    width = ids.shape[1]
    right = torch.tensor([row + [0] * (width - len(row)) for row in ROWS])
    with torch.no_grad():
        left_logits = model(ids, attention_mask=mask).logits
        right_logits = model(right, attention_mask=(right != 0).long()).logits
        for row, left, beside in zip(ROWS, left_logits, right_logits, strict=True):
            single = model(torch.tensor([row])).logits[0]
            # rotary angles are of float32 positions, which padding on the left moves
            torch.testing.assert_close(left[width - len(row) :], single, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(beside[: len(row)], single, **EXACT)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
@pytest.mark.parametrize("way", [lambda model: None, FastSteps], ids=["stock", "fast"])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_pass_leaves_no_keys_behind_a_window_smaller_than_the_prompt(family, way, gradients, pair, prompts):
    one, model = pair(family, sliding_window=4, num_layers=7, p=0.3, bridge="linear")
    ids = prompts(length=8, thoughts=5, answer=3)
    with torch.set_grad_enabled(gradients):
        wanted = one(ids, use_cache=False).logits
        with model.thinking(steps=way(model)):
            cache = model(ids[:, :-3], use_cache=True).past_key_values
            assert cache.get_seq_length() == ids.shape[1] - 3
            rest = model(ids[:, -3:], past_key_values=cache).logits
            whole = model(ids, use_cache=False).logits
    torch.testing.assert_close(rest, wanted[:, -3:], **EXACT)
    torch.testing.assert_close(whole, wanted, **EXACT)


def test_a_question_is_read_once_and_each_pass_takes_the_thoughts_alone(pair, prompts):
    _, model = pair(passes=3)
    taken = []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: taken.append(args[0].shape[1]))
    model(prompts(length=6, thoughts=5, answer=2))
    assert taken == [7, 5, 5, 5 + 1 + 2]
    taken.clear()
    model.set_latent(parallel_passes=100)  # more would change nothing
    model(prompts(length=6, thoughts=5, answer=2))
    assert taken == [7, 5, 5, 5, 5, 5 + 1 + 2]


def test_it_generates_what_append_does_and_fewer_passes_something_else(pair, prompts):
    one, model = pair(num_layers=3)
    ids = prompts(thoughts=0)[:, :6]
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "num_thoughts": 4}
    wanted = one.generate(ids, **options)
    assert torch.equal(model.generate(ids, **options), wanted)
    model.set_latent(parallel_passes=1)
    assert not torch.equal(model.generate(ids, **options), wanted)


def test_truncation_keeps_the_gradients_of_the_last_passes(pair, prompts):
    ids = prompts(thoughts=4, answer=1)
    labels = torch.where(torch.arange(ids.shape[1]) == ids.shape[1] - 1, ids, -100)
    losses, bridges = [], []
    for n in (None, 4, 2, 1):
        _, model = pair(bridge="linear", backprop_steps=n)
        loss = model(ids, labels=labels).loss
        loss.backward()
        losses.append(loss.item())
        bridges.append(model.model.bridge.out.weight.grad)
    assert len(set(losses)) == 1
    torch.testing.assert_close(bridges[0], bridges[1])
    assert not torch.allclose(bridges[1], bridges[2])
    assert not torch.allclose(bridges[2], bridges[3])


def test_under_lora_of_peft_it_is_append_too(pair, prompts):
    ids = prompts(answer=2)
    gradients = []
    for model in pair(p=0.3):
        torch.manual_seed(0)
        wrapped = get_peft_model(model, LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False)).double()
        wrapped(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: q.grad for name, q in wrapped.named_parameters() if q.grad is not None})
    one, other = gradients
    assert one.keys() == other.keys()
    assert len(one) > 20
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, **EXACT)
