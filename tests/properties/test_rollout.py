"""The properties the latent forward is trusted for, on every family and both recurrences where they apply."""

import gc
import weakref

import pytest
import torch
from torch import nn
from transformers import Gemma2ForCausalLM, Gemma3ForCausalLM, GemmaForCausalLM

from latent_gemma.errors import ModelError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model import LatentReasoningGemmaForCausalLM, ThoughtRecord
from latent_gemma.model.gemma import is_latent_parameter
from latent_gemma.model.prompt import pad_left
from tests.conftest import BOT, EOT, FAMILIES, RECURRENCES, THOUGHT

BASES = {"gemma": GemmaForCausalLM, "gemma2": Gemma2ForCausalLM, "gemma3": Gemma3ForCausalLM}
every_family = pytest.mark.parametrize("family", FAMILIES)
#: Single positions by the stock layers, and by the faster ways.
every_way = pytest.mark.parametrize("way", [lambda model: None, FastSteps], ids=["stock", "fast"])
every_recurrence = pytest.mark.parametrize("recurrence", RECURRENCES)


def plain_copy(model, family):
    """The stock model with the same weights."""
    config = BASES[family].config_class(**model.config.to_dict())
    config._attn_implementation = "eager"
    base = BASES[family](config).to(model.dtype).eval()
    missing, _ = base.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    return base


def randomise_latent_part(model, std=0.05):
    """Move the latent part away from its identity start, so that a property is not true by being zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_latent_parameter(name):
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * std)
    return model


@every_family
def test_without_thoughts_the_model_is_the_base_model_bit_for_bit(family, make_model):
    model = randomise_latent_part(make_model(family, bridge="mlp", adapter="lora"))
    base = plain_copy(model, family)
    ids = torch.randint(12, 260, (2, 11), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(ids).logits, base(ids).logits)
    options = {"max_new_tokens": 6, "do_sample": False, "suppress_tokens": [THOUGHT]}
    assert torch.equal(model.generate(ids, **options), base.generate(ids, **options))


@every_way
@every_recurrence
def test_what_a_step_recorded_is_freed_with_it(recurrence, way, make_model, prompts):
    """Hooks on what is fed back must not hold what holds it: no collector sees a circle through autograd's graph."""
    model = make_model(recurrence=recurrence, bridge="linear")
    record = ThoughtRecord()
    with model.thinking(record=record, steps=way(model)):
        model(prompts(thoughts=2)).logits.sum().backward()
    assert record.grad_norms
    seen = [weakref.ref(one) for one in (record, *record.inputs)]
    del record
    gc.collect()
    assert not any(one() is not None for one in seen)


@every_family
def test_p_one_is_greedy_decoding_token_for_token(family, make_model, prompts):
    model = make_model(family, p=1.0, bridge="mlp")
    base = plain_copy(model, family)
    ids = prompts(thoughts=5)
    started = ids[:, : ids.shape[1] - 6]
    written = base.generate(started, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    record = ThoughtRecord()
    with model.thinking(record=record):
        logits = model(ids).logits[:, -1]
    assert torch.equal(torch.stack(record.tokens, dim=1), written[:, started.shape[1] :])
    spelled = torch.cat([written, torch.full((len(ids), 1), EOT)], dim=1)
    torch.testing.assert_close(logits, base(spelled).logits[:, -1], rtol=1e-4, atol=1e-4)


@every_family
@pytest.mark.parametrize("p", [0.0, 0.4])
@every_recurrence
@every_way
def test_cached_equals_uncached(family, recurrence, p, way, make_model, prompts):
    model = randomise_latent_part(make_model(family, recurrence=recurrence, p=p, bridge="linear", adapter="lora"))
    ids = prompts()
    options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with model.thinking(steps=way(model)):
        generated = model.generate(ids, max_new_tokens=6, **options)
    full = model(generated.sequences, use_cache=False).logits[:, ids.shape[1] - 1 : -1]
    torch.testing.assert_close(
        torch.stack(generated.logits, dim=1), full[:, : len(generated.logits)], rtol=1e-4, atol=1e-4
    )


@every_family
def test_a_prompt_may_be_cut_anywhere_even_between_thoughts(family, make_model, prompts):
    model = randomise_latent_part(make_model(family, bridge="linear", adapter="lora", p=0.3))
    ids = prompts(length=4, thoughts=3, answer=2)
    whole = model(ids).logits
    for cut in range(1, ids.shape[1]):
        first = model(ids[:, :cut])
        second = model(ids[:, cut:], past_key_values=first.past_key_values)
        torch.testing.assert_close(torch.cat([first.logits, second.logits], dim=1), whole, rtol=1e-4, atol=1e-4)


@every_family
@every_recurrence
@every_way
def test_batch_of_n_equals_n_batches_of_one_on_either_side_of_the_padding(
    family, recurrence, way, make_model, true_double
):
    model = randomise_latent_part(
        make_model(family, recurrence=recurrence, p=0.3, bridge="linear", adapter="full").double()
    )
    # ragged questions, ragged numbers of thoughts (none at all in one row), ragged answers
    rows = [
        [20, 21, 22, 23, BOT, THOUGHT, THOUGHT, THOUGHT, EOT, 40, 41],
        [30, BOT, THOUGHT, EOT, 42],
        [50, 51, BOT, EOT, 43, 44, 45],
        [60, 61, 62, BOT, THOUGHT, THOUGHT, EOT, 46],
    ]
    singles = [model(torch.tensor([row])).logits[0] for row in rows]
    ids, mask = pad_left(rows, 0)
    with model.thinking(steps=way(model)):
        left = model(ids, attention_mask=mask).logits
    width = ids.shape[1]
    for row, single, logits in zip(rows, singles, left, strict=True):
        torch.testing.assert_close(logits[width - len(row) :], single, rtol=1e-6, atol=1e-6)
    right_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    with model.thinking(steps=way(model)):
        right = model(right_ids, attention_mask=(right_ids != 0).long()).logits
    for row, single, logits in zip(rows, singles, right, strict=True):
        torch.testing.assert_close(logits[: len(row)], single, rtol=1e-6, atol=1e-6)


@every_family
@every_recurrence
def test_padding_changes_nothing_in_float64_though_softmax_is_in_float32(family, recurrence, make_model):
    model = make_model(family, sliding_window=4, recurrence=recurrence, p=0.3, dtype=torch.float64)
    rows = [[20, 21, 22, 23, 24, BOT, THOUGHT, THOUGHT, EOT], [30, 31, 32], [40, BOT, THOUGHT, EOT]]
    ids, mask = pad_left(rows, 0)
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "suppress_tokens": [BOT, THOUGHT, EOT]}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    logits = model(ids, attention_mask=mask).logits
    steps = torch.stack(model.generate(ids, attention_mask=mask, **options).logits, dim=1)
    assert logits.isfinite().all()
    for row, found, step in zip(rows, logits, steps, strict=True):
        alone = torch.tensor([row])
        torch.testing.assert_close(found[-len(row) :], model(alone).logits[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            step, torch.stack(model.generate(alone, **options).logits, dim=1)[0], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
@every_recurrence
def test_sliding_window_smaller_than_the_prompt(family, recurrence, make_model, prompts):
    # window 4 in a prompt of 13: the layers that slide must not see what is further away, cached or not
    model = randomise_latent_part(
        make_model(family, sliding_window=4, num_layers=7, recurrence=recurrence, bridge="linear", p=0.2)
    )
    wide = make_model(family, num_layers=7, recurrence=recurrence, bridge="linear", p=0.2)
    wide.load_state_dict(model.state_dict())
    ids = prompts(length=8)
    assert not torch.allclose(model(ids).logits, wide(ids).logits, atol=1e-3)
    generated = model.generate(ids, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True)
    full = model(generated.sequences, use_cache=False).logits[:, ids.shape[1] - 1 : -1]
    torch.testing.assert_close(
        torch.stack(generated.logits, dim=1), full[:, : len(generated.logits)], rtol=1e-4, atol=1e-4
    )


def unrolled_append(model, ids, p):
    """The K-pass forward written plainly: no cache, the whole prefix again for every thought."""
    decoder, latent = model.model, model.config.latent
    columns = (ids[0] == THOUGHT).nonzero().flatten().tolist()
    embeds = list(decoder.embed_tokens(ids).unbind(dim=1))
    for column in columns:
        hidden = decoder(inputs_embeds=torch.stack(embeds[:column], dim=1), use_cache=False).last_hidden_state[:, -1]
        unit = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
        out = decoder.bridge
        normed = nn.functional.layer_norm(unit, unit.shape[-1:], out.norm.weight, out.norm.bias)
        fed = (unit + normed @ out.out.weight.T + out.out.bias) * latent.embed_rms
        token = model.project(hidden).argmax(-1)
        embeds[column] = p * decoder.embed_tokens(token).detach() + (1 - p) * fed
    return model.project(decoder(inputs_embeds=torch.stack(embeds, dim=1), use_cache=False).last_hidden_state)


def unrolled_sequence(model, ids, p):
    """The same for the 'sequence' recurrence: K more passes over the prompt, the answer reads the last one."""
    decoder, latent = model.model, model.config.latent
    first = int((ids[0] == THOUGHT).nonzero()[0])
    count = int((ids[0] == THOUGHT).sum())
    embeds = decoder.embed_tokens(ids)
    prefix = embeds[:, :first]
    for _ in range(count):
        hidden = decoder(inputs_embeds=prefix, use_cache=False).last_hidden_state
        unit = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
        out = decoder.bridge
        normed = nn.functional.layer_norm(unit, unit.shape[-1:], out.norm.weight, out.norm.bias)
        fed = (unit + normed @ out.out.weight.T + out.out.bias) * latent.embed_rms
        prefix = p * decoder.embed_tokens(model.project(hidden).argmax(-1)).detach() + (1 - p) * fed
    # The thought columns hold no position: leaving them out, with the positions of the rest kept, is the same.
    keep = [i for i in range(ids.shape[1]) if not first <= i < first + count]
    joined = torch.cat([prefix, embeds[:, first + count :]], dim=1)
    return model.project(
        decoder(
            inputs_embeds=joined,
            position_ids=torch.tensor([keep]),
            attention_mask=torch.ones(len(ids), len(keep)),
            use_cache=False,
        ).last_hidden_state
    )[:, first:]


@every_family
@every_recurrence
@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_a_plain_unrolled_reference(
    family, recurrence, p, checkpointing, make_model, prompts, true_double
):
    model = randomise_latent_part(make_model(family, recurrence=recurrence, bridge="linear", p=p).double()).train()
    ids = prompts(thoughts=3, answer=3)
    labels = ids[:, -3:]

    def gradients(logits):
        model.zero_grad()
        nn.functional.cross_entropy(logits[:, -4:-1].flatten(0, 1), labels.flatten()).backward()
        return {name: q.grad.clone() for name, q in model.named_parameters() if q.grad is not None}

    reference = gradients((unrolled_sequence if recurrence == "sequence" else unrolled_append)(model, ids, p))
    if checkpointing:
        model.activation_checkpointing_enable()
    ours = gradients(model(ids, use_cache=False).logits)
    assert reference.keys() == ours.keys()
    assert any(value.abs().max() > 1e-6 for name, value in ours.items() if is_latent_parameter(name))
    for name, value in reference.items():
        torch.testing.assert_close(
            ours[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )


@every_recurrence
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_checkpointing_recomputes_each_phase_in_its_own_forward(recurrence, adapter, make_model, prompts, true_double):
    # With an adapter on thoughts only, recomputing under the wrong phase changes the gradient.
    model = randomise_latent_part(
        make_model(recurrence=recurrence, adapter=adapter, bridge="mlp", trains="thoughts").double()
    )
    model.train()
    model.freeze_phases()
    ids = prompts(answer=2)
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 2, ids, -100)

    def gradients():
        model.zero_grad()
        model(ids, labels=labels, use_cache=False).loss.backward()
        return {name: q.grad.clone() for name, q in model.named_parameters() if q.grad is not None}

    plain = gradients()
    calls = []
    model.model.layers[1].mlp.register_forward_hook(lambda *_: calls.append(1))
    model.activation_checkpointing_enable()
    checkpointed = gradients()
    # every call runs once in forward and once in backward; passes over the prompt that nobody continues once more
    # there, since they keep nothing but their input
    assert len(calls) == {"append": 4 * 2, "sequence": 3 * 3 + 2 * 2, "parallel": 4 * 2}[recurrence]
    assert plain.keys() == checkpointed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-10, atol=1e-12)


@every_family
@every_recurrence
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_gradient_reaches_bridge_and_first_step_and_no_frozen_parameter(
    family, recurrence, adapter, make_model, prompts
):
    model = randomise_latent_part(
        make_model(family, recurrence=recurrence, adapter=adapter, bridge="linear", trains="thoughts", p=0.3)
    )
    trainable = model.freeze_phases()
    assert trainable == sum(q.numel() for name, q in model.named_parameters() if is_latent_parameter(name))
    ids = prompts(answer=2)
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 2, ids, -100)
    record = ThoughtRecord()
    with model.thinking(record=record):
        model(ids, labels=labels).loss.backward()
    assert sorted(record.grad_norms) == [0, 1, 2]
    assert all(norm > 0 for norm in record.grad_norms.values())
    for name, parameter in model.named_parameters():
        if is_latent_parameter(name):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("recurrence", ["append", "sequence"])
def test_truncation_stops_at_the_last_n_steps(recurrence, make_model, prompts):
    ids = prompts(thoughts=4, answer=1)
    labels = torch.where(torch.arange(ids.shape[1]) == ids.shape[1] - 1, ids, -100)
    losses = []
    for n, reached in ((None, [0, 1, 2, 3]), (4, [0, 1, 2, 3]), (2, [2, 3]), (1, [3])):
        model = randomise_latent_part(make_model(recurrence=recurrence, bridge="linear", backprop_steps=n))
        record = ThoughtRecord()
        with model.thinking(record=record):
            loss = model(ids, labels=labels).loss
            loss.backward()
        losses.append(loss.item())
        assert sorted(record.grad_norms) == reached
    assert len(set(losses)) == 1, "truncation changes the gradient, never the forward"


@every_family
@every_recurrence
@pytest.mark.parametrize("bridge", ["linear", "mlp"])
@pytest.mark.parametrize("adapter", ["none", "lora", "full"])
def test_identity_start_leaves_the_first_forward_unchanged(family, recurrence, bridge, adapter, make_model, prompts):
    plain = make_model(family, recurrence=recurrence)
    started = make_model(family, recurrence=recurrence, bridge=bridge, adapter=adapter)
    started.load_state_dict(plain.state_dict(), strict=False)
    ids = prompts()
    torch.testing.assert_close(started(ids).logits, plain(ids).logits, rtol=0, atol=1e-5)


@every_family
@every_recurrence
def test_layer_zero_sees_thoughts_at_the_scale_of_tokens(family, recurrence, make_model, prompts):
    model = make_model(family, recurrence=recurrence)
    ids = prompts(batch=16, length=12, thoughts=4)
    tokens = model.model.embed_tokens(ids[:, :12]).pow(2).mean().sqrt()
    record = ThoughtRecord()
    with model.thinking(record=record):
        model(ids)
    thoughts = record.stacked_inputs().pow(2).mean().sqrt()
    assert abs(thoughts / tokens - 1) < 0.10


def test_the_adapter_acts_on_thought_positions_only(make_model, prompts):
    model = make_model(adapter="lora")
    ids = prompts(thoughts=2, answer=2)
    before = model(ids, output_hidden_states=True).hidden_states
    randomise_latent_part(model, std=0.5)
    after = model(ids, output_hidden_states=True).hidden_states
    first = ids[0].tolist().index(THOUGHT)
    assert torch.equal(before[-1][:, :first], after[-1][:, :first])
    assert not torch.allclose(before[-1][:, first], after[-1][:, first], atol=1e-3)
    # after the thoughts only attention to them can differ: the input of layer 0 is the same
    assert torch.equal(before[0][:, -3:], after[0][:, -3:])


def answer_moves_with(model, ids, columns):
    """How far the logits after the thoughts move when the cached keys and values of `columns` are changed."""
    with torch.no_grad():
        end = ids.shape[1] - 2
        baseline = model(ids[:, end:], past_key_values=model(ids[:, :end]).past_key_values).logits
        cache = model(ids[:, :end]).past_key_values
        for layer in cache.layers:
            layer.keys[:, :, columns] += 1.0
            layer.values[:, :, columns] += 1.0
        return (model(ids[:, end:], past_key_values=cache).logits - baseline).abs().max().item()


def test_an_answer_sees_the_question_and_the_thoughts(make_model, prompts):
    ids = prompts(length=6, thoughts=3, answer=2)
    for columns in (list(range(7)), [7, 8, 9]):
        assert answer_moves_with(make_model(), ids, columns) > 0.1


def test_in_sequence_the_thought_columns_hold_no_position(make_model, prompts):
    ids = prompts(length=6, thoughts=3, answer=2)
    model = make_model(recurrence="sequence")
    assert answer_moves_with(model, ids, [7, 8, 9]) == 0.0
    assert answer_moves_with(model, ids, [0, 1, 2]) > 0.1


@pytest.mark.parametrize("autocast", [False, True])
def test_bridge_runs_in_float32_under_bfloat16(autocast, make_model, prompts, tmp_path):
    make_model(bridge="linear").save_pretrained(tmp_path)
    dtype = torch.float32 if autocast else torch.bfloat16
    model = LatentReasoningGemmaForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == dtype
    seen = []
    model.model.bridge.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(prompts()).logits
    assert seen == [torch.float32] * 3
    assert torch.isfinite(logits.float()).all()


@pytest.mark.parametrize(
    ("ids", "mask", "match"),
    [
        ([[THOUGHT, EOT]], None, "nothing comes before"),
        ([[0, THOUGHT, EOT], [20, THOUGHT, EOT]], [[0, 1, 1], [1, 1, 1]], "nothing comes before"),
    ],
)
def test_a_thought_with_nothing_before_it_is_refused(ids, mask, match, make_model):
    model = make_model()
    with pytest.raises(ModelError, match=match):
        model(torch.tensor(ids), attention_mask=None if mask is None else torch.tensor(mask))


def test_sequence_refuses_what_it_cannot_do(make_model):
    model = make_model(recurrence="sequence")
    with pytest.raises(ModelError, match="one block"):
        model(torch.tensor([[20, THOUGHT, 21, THOUGHT, EOT]]))
    cache = model(torch.tensor([[20, 21]])).past_key_values
    with pytest.raises(ModelError, match="cannot extend"):
        model(torch.tensor([[THOUGHT, EOT]]), past_key_values=cache)


@every_family
def test_a_thought_that_is_not_given_follows_from_those_that_are(family, make_model, prompts):
    model, ids, given = make_model(family), prompts(), torch.full((3, 3, 32), float("nan"))
    plain, followed = ThoughtRecord(), ThoughtRecord()
    with model.thinking(record=plain):
        own = model(ids).logits
    with model.thinking(forced=given):
        assert torch.equal(model(ids).logits, own), "none is given"
    given[:, 0] = 0.5
    with model.thinking(forced=given, record=followed):
        logits = model(ids).logits
    assert torch.equal(followed.inputs[0], given[:, 0])
    assert not torch.allclose(followed.inputs[1], plain.inputs[1])
    with model.thinking(forced=followed.stacked_inputs()):
        assert torch.equal(model(ids).logits, logits)


def test_noise_dropout_and_forced_thoughts_change_the_answer(make_model, prompts):
    model = make_model()
    ids = prompts()
    plain = model(ids).logits
    record = ThoughtRecord()
    with model.thinking(record=record):
        model(ids)
    with model.thinking(forced=record.stacked_inputs()):
        torch.testing.assert_close(model(ids).logits, plain)
    for settings in ({"noise_std": 0.5}, {"dropout": 0.5}, {"forced": torch.zeros(3, 3, 32)}):
        with model.thinking(**settings):
            assert not torch.allclose(model(ids).logits[:, -1], plain[:, -1], atol=1e-4), settings
    torch.testing.assert_close(model(ids).logits, plain)
