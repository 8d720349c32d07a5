"""Traces: one generation call, prompts read once, each row at its own temperature."""

import pytest
import torch

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.generation import answers as answers_module
from latent_gemma.generation.answers import answer
from latent_gemma.generation.decode import decode
from latent_gemma.model.prompt import Frame
from tests.conftest import RECURRENCES

QUESTIONS = ["1+2=", "what is 31 + 4?", "7"]


def sample_traces(model, frame, questions, temperatures, mode="words", num_thoughts=0, **settings):
    return answer(model, frame, questions, mode, num_thoughts, temperatures=temperatures, **settings).traces


SETTINGS = [
    ("words", 0, {}),
    ("words", 0, {"words_format": "tags"}),
    ("latent", 3, {}),
    ("latent", 3, {"p": 0.5, "bridge": "linear", "adapter": "lora"}),
    ("latent", 2, {"recurrence": "sequence"}),
    ("latent", 2, {"recurrence": "parallel", "parallel_passes": 1}),
    ("latent", 0, {}),
]


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
@pytest.mark.parametrize(("mode", "thoughts", "latent"), SETTINGS)
def test_at_temperature_zero_traces_are_greedy_answers(make_model, tokenizer, family, mode, thoughts, latent):
    model = make_model(family, sliding_window=8, num_thoughts=thoughts, **latent)
    frame = Frame(tokenizer, model.config.latent)
    greedy = answer_batch(model, frame, QUESTIONS, mode, thoughts, max_new_tokens=12).answers
    traces = sample_traces(model, frame, QUESTIONS, [0.0, 0.0], mode, thoughts, max_new_tokens=12)
    assert [[trace.written for trace in group] for group in traces] == [[answer, answer] for answer in greedy]


def reference_logprob(model, frame, question, written_ids):
    prompt = frame.prompt(question, "words")
    ids = torch.tensor([[*prompt, *written_ids]])
    logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    logits[:, frame.latent.thought_id] = float("-inf")  # never generated
    return logits.log_softmax(-1).gather(1, torch.tensor(written_ids)[:, None]).mean().item()


def test_log_probabilities_are_the_models_own(make_model, tokenizer, monkeypatch):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    calls = []
    monkeypatch.setattr(
        answers_module, "decode", lambda *args, **more: calls.append(decode(*args, **more)) or calls[-1]
    )
    traces = sample_traces(model, frame, QUESTIONS, [0.3, 1.5], max_new_tokens=7, seed=3)
    (decoded,) = calls  # one call for all traces
    for index, trace in enumerate(trace for group in traces for trace in group):
        reference = reference_logprob(model, frame, QUESTIONS[index // 2], decoded.tokens[index])
        assert trace.logprob == pytest.approx(reference, abs=1e-4)


def test_the_prompt_is_read_once_for_all_traces(make_model, tokenizer, monkeypatch):
    model = make_model(num_thoughts=2)
    frame = Frame(tokenizer, model.config.latent)
    calls, layer = [], model.model.layers[0]
    forward = layer.forward

    def spy(hidden, *args, **kwargs):
        calls.append(tuple(hidden.shape[:2]))
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", spy, raising=False)
    sample_traces(model, frame, ["1+2=", "3+4="], [0.5] * 5, "words", max_new_tokens=4)
    prompt = len(frame.prompt("1+2=", "words"))
    assert calls[0] == (2, prompt - 1), "two questions, not ten rows"
    assert calls[1] == (10, 1)
    calls.clear()
    sample_traces(model, frame, ["1+2=", "3+4="], [0.5] * 5, "latent", 2, noise_std=0.5, max_new_tokens=4)
    assert calls[0] == (2, prompt - 1), "the question once, the thoughts ten times"
    assert all(rows == 10 for rows, _ in calls[1:])


def test_each_row_has_its_own_temperature(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    traces = sample_traces(model, frame, ["1+2="] * 4, [0.0, 5.0], max_new_tokens=20)
    cold, hot = zip(*traces, strict=True)
    assert len({trace.written.tagged for trace in cold}) == 1
    assert len({trace.written.tagged for trace in hot}) == 4
    assert min(t.logprob for t in cold) > max(t.logprob for t in hot)


def test_noise_in_the_thoughts_makes_paths_differ(make_model, tokenizer):
    model = make_model(num_thoughts=4)
    frame = Frame(tokenizer, model.config.latent)
    for recurrence in RECURRENCES:
        model.set_latent(recurrence=recurrence)
        frame = Frame(tokenizer, model.config.latent)
        (quiet,) = sample_traces(model, frame, ["1+2="], [0.0] * 6, "latent", 4, max_new_tokens=12)
        (noisy,) = sample_traces(model, frame, ["1+2="], [0.0] * 6, "latent", 4, noise_std=3.0, max_new_tokens=12)
        assert len({trace.written.answer for trace in quiet}) == 1
        assert len({trace.written.answer for trace in noisy}) > 1


def test_the_same_seed_gives_the_same_traces_and_leaves_the_random_state(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    first = sample_traces(model, frame, QUESTIONS, [1.0, 1.0], max_new_tokens=8, seed=5)
    assert torch.equal(torch.rand(1), before)
    assert first == sample_traces(model, frame, QUESTIONS, [1.0, 1.0], max_new_tokens=8, seed=5)
    assert first != sample_traces(model, frame, QUESTIONS, [1.0, 1.0], max_new_tokens=8, seed=6)


def test_what_cannot_be_sampled_is_refused(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    with pytest.raises(ConfigError, match="temperatures"):
        sample_traces(model, frame, ["1"], [])
    with pytest.raises(ConfigError, match="temperatures"):
        sample_traces(model, frame, ["1"], [-0.1])
    with pytest.raises(ConfigError, match="noise"):
        sample_traces(model, frame, ["1"], [1.0], noise_std=-1.0)
