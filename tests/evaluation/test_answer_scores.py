"""The log-probability of an answer behind known thoughts is what thinking them again gives."""

import pytest
import torch

from latent_gemma.evaluation.answer_scores import score_answers
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.generation.score import score_continuations
from latent_gemma.model.prompt import Frame
from tests.conftest import every_family, every_kind, keep_double, weighted

QUESTIONS = ["1+2=", "12*3-4=", "5"]
ANSWERS = ["3", "32", "1000"]


def asked(tokenizer, model, ks):
    frame = Frame(tokenizer, model.config.latent)
    prompts = [frame.latent_prompt(question, k) for question, k in zip(QUESTIONS, ks, strict=True)]
    return frame, prompts, [[*frame.text_ids(answer), frame.end_id] for answer in ANSWERS]


def thought(model, frame, ks):
    """What the model feeds back to each question."""
    return [
        answer_batch(model, frame, [question], "latent", k, max_new_tokens=1).thoughts[0] if k else torch.zeros(0, 32)
        for question, k in zip(QUESTIONS, ks, strict=True)
    ]


@every_family
@every_kind
def test_known_thoughts_score_as_those_that_are_thought(family, latent, make_model, tokenizer):
    model = weighted(make_model(family, bridge="linear", **latent))
    for ks in ((2, 2, 2), (1, 3, 0)):
        frame, prompts, answers = asked(tokenizer, model, ks)
        own = [score_continuations(model, [p], [a], frame.pad_id)[0][0] for p, a in zip(prompts, answers, strict=True)]
        found = score_answers(model, prompts, answers, thought(model, frame, ks), frame.pad_id)
        assert found == pytest.approx(own, abs=2e-4)


@every_kind
def test_forced_thoughts_are_scored_in_double_precision(latent, make_model, tokenizer, monkeypatch):
    keep_double(monkeypatch)
    model = weighted(make_model(dtype=torch.float64, num_thoughts=2, **latent))
    frame, prompts, answers = asked(tokenizer, model, (2, 2, 2))
    forced = [torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    with model.thinking(forced=torch.stack(forced)):
        wanted = [logprob for logprob, _ in score_continuations(model, prompts, answers, frame.pad_id)]
    assert score_answers(model, prompts, answers, forced, frame.pad_id) == pytest.approx(wanted, abs=1e-9)


def test_the_plain_embedding_of_the_thought_token_is_taken_as_it_is(make_model, tokenizer):
    model = weighted(make_model(num_thoughts=2))
    frame, prompts, answers = asked(tokenizer, model, (2, 2, 2))
    pause = model.model.embed_tokens(torch.tensor([8, 8])).detach()
    with model.thinking(forced=pause[None].expand(3, -1, -1)):
        wanted = [logprob for logprob, _ in score_continuations(model, prompts, answers, frame.pad_id)]
    assert score_answers(model, prompts, answers, [pause] * 3, frame.pad_id) == pytest.approx(wanted, abs=2e-4)


def test_the_prompts_own_positions_are_sent_through_again(make_model, tokenizer):
    model = weighted(make_model(num_thoughts=2, recurrence="sequence"))
    frame, prompts, answers = asked(tokenizer, model, (2, 2, 2))
    wanted = [score_continuations(model, [p], [a], frame.pad_id)[0][0] for p, a in zip(prompts, answers, strict=True)]
    found = score_answers(model, prompts, answers, thought(model, frame, (2, 2, 2)), frame.pad_id)
    assert found == pytest.approx(wanted, abs=2e-4)


def test_without_thoughts_it_is_the_stock_models_own(make_model, tokenizer):
    model = weighted(make_model())
    frame, prompts, answers = asked(tokenizer, model, (0, 0, 0))
    found = score_answers(model, prompts, answers, [], frame.pad_id)
    for prompt, answer, logprob in zip(prompts, answers, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = sum(float(logits[place, token]) for place, token in enumerate(answer))
        assert logprob == pytest.approx(wanted, abs=2e-4)
