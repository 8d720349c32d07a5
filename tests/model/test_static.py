"""Compiled steps of a fixed shape give what the others give."""

from dataclasses import replace

import pytest
import torch

from latent_gemma.errors import ConfigError
from latent_gemma.fast.compiled import CompiledForward
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import answer
from latent_gemma.generation.decode import decode
from latent_gemma.model.prompt import Frame, pad_left
from tests.conftest import FAMILIES, hesitant

QUESTIONS = ["1+2=", "what is 31 + 4?", "7", "12-9="]


@pytest.fixture
def taken(monkeypatch):
    """Steps that were compiled ones, and those that fell back."""
    calls, run = [], CompiledForward._forward
    monkeypatch.setattr(CompiledForward, "_forward", lambda *args: calls.append(1) or run(*args))
    return calls


def compiled(model):
    return FastSteps(model, compiled=True, backend="eager")


def answers(model, tokenizer, mode, thoughts, tokens=12):
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = pad_left([frame.prompt(question, mode, thoughts) for question in QUESTIONS], frame.pad_id)
    return decode(model, ids, mask, torch.tensor([0.0, 1.0, 0.0, 0.7]), (77,), tokens, generator=torch.manual_seed(2))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("mode", "thoughts", "latent"), [
    ("words", 0, {}),
    ("latent", 4, {"p": 0.5}),
    ("latent", 4, {"adapter": "lora"}),
    ("latent", 3, {"recurrence": "sequence"}),
    ("latent", 4, {"recurrence": "parallel", "parallel_passes": 2}),
])  # fmt: skip
@pytest.mark.parametrize("window", [6, 4096])
def test_answers_are_the_same(make_model, tokenizer, taken, family, mode, thoughts, latent, window):
    model = make_model(family, sliding_window=window, num_layers=7 if family == "gemma3" else 2, **latent)
    with model.thinking(steps=FastSteps(model)):
        plain = answers(model, tokenizer, mode, thoughts)
    assert not taken
    with model.thinking(steps=compiled(model)):
        fixed = answers(model, tokenizer, mode, thoughts)
    assert fixed.tokens == plain.tokens
    assert torch.allclose(fixed.logprobs, plain.logprobs, atol=1e-4)
    # every token but the first, and the thoughts that go through alone unless adapters act on them
    alone = thoughts - 1 if latent.get("adapter", "none") == "none" and "recurrence" not in latent else 0
    assert len(taken) == 11 + max(0, alone)


def test_traces_of_a_vote_are_the_same(make_model, tokenizer, taken):
    model = make_model(num_thoughts=3)
    frame = Frame(tokenizer, model.config.latent)
    settings = {"temperatures": [0.3, 1.0], "max_new_tokens": 9, "seed": 1}
    vote = lambda: answer(model, frame, QUESTIONS, "latent", 3, **settings).traces  # noqa: E731
    plain = vote()
    with model.thinking(steps=compiled(model)):
        fixed = vote()
    assert [[trace.written for trace in group] for group in fixed] == [
        [trace.written for trace in group] for group in plain
    ]
    assert len(taken) == 3 + 8  # the thoughts of the prompts, which are read without their last column, and the tokens


@pytest.mark.parametrize("latent", [{"p": 0.5}, {"adapter": "lora"}])
def test_a_model_that_ends_its_thinking_itself_does_so_at_the_same_step(make_model, tokenizer, taken, latent):
    model = hesitant(make_model(num_thoughts=3, learned_k=True, **latent))
    frame = Frame(tokenizer, model.config.latent)
    ask = lambda: answer(model, frame, QUESTIONS, "latent", "auto", max_new_tokens=6)  # noqa: E731
    with model.thinking(steps=FastSteps(model)):
        plain = ask()
    with model.thinking(steps=compiled(model)):
        fixed = ask()
    assert fixed.traces == [
        [replace(one, logprob=pytest.approx(one.logprob, abs=1e-4)) for one in group] for group in plain.traces
    ]
    assert len({group[0].num_thoughts for group in plain.traces}) > 1
    assert taken


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("latent", [{"p": 0.5}, {"adapter": "lora"}])
@pytest.mark.parametrize("window", [6, 4096])
def test_steps_that_a_gpu_records_are_made_anew_for_each_cache(
    make_model, tokenizer, monkeypatch, family, latent, window
):
    """A recording, here the step itself, sees what was copied into its inputs, and no other cache's buffers."""
    made = []
    monkeypatch.setattr(FastSteps, "_on_gpu", True)
    monkeypatch.setattr("latent_gemma.fast.compiled.recorded", lambda step, device: made.append(step()) or step)
    model = make_model(family, sliding_window=window, num_layers=7 if family == "gemma3" else 2, **latent)
    plain = answers(model, tokenizer, "latent", 4)
    steps = FastSteps(model)
    for decodings in (1, 2):
        with model.thinking(steps=steps):
            fixed = answers(model, tokenizer, "latent", 4)
        assert fixed.tokens == plain.tokens
        assert len(made) == decodings
    with model.thinking(steps=FastSteps(model, recorded=False)):
        assert answers(model, tokenizer, "latent", 4).tokens == plain.tokens
    assert len(made) == 2


def test_steps_are_kept_until_the_weights_change(make_model, tokenizer, taken):
    model = make_model()
    steps = compiled(model)
    first = lambda: steps.begin(model.model, steps.cache(model.config, 8), 8).forward  # noqa: E731
    with model.thinking(steps=steps):
        answers(model, tokenizer, "words", 0)
        kept = first()
        assert first() is kept
        model.model.layers[0].mlp.up_proj.weight.data.mul_(1.0)
        with torch.no_grad():
            model.model.layers[0].input_layernorm.weight.add_(0.5)
        assert first() is not kept
        changed = answers(model, tokenizer, "words", 0)
    assert changed.tokens == answers(model, tokenizer, "words", 0).tokens


def test_a_missing_compiler_is_named(make_model, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="compiler to compile decoding with"):
        FastSteps(make_model(), compiled=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_answers_are_the_same(make_model, tokenizer):
    """With the compiler itself; the tests above run the same steps through its tracer alone."""
    model = make_model()
    plain = answers(model, tokenizer, "words", 0)
    with model.thinking(steps=FastSteps(model, compiled=True)):
        fixed = answers(model, tokenizer, "words", 0)
    assert fixed.tokens == plain.tokens
    assert torch.allclose(fixed.logprobs, plain.logprobs, atol=1e-4)
