"""The evaluation measures what it says, on a model whose every answer can be checked by hand."""

import itertools
from dataclasses import replace

import pytest
import torch

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.evaluation import engine
from latent_gemma.evaluation.answering import Batch, answer_batch
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.generation import answers
from latent_gemma.generation.decode import Decoded
from latent_gemma.model import ThoughtRecord
from latent_gemma.model.prompt import Frame, Written
from tests.conftest import EOT, RECURRENCES, hesitant

TESTS = list(itertools.islice(chain_examples(ChainConfig(2), "test", 0), 7))


@pytest.fixture
def evaluator(make_model, tokenizer):
    def build(batch_size=3, **latent):
        model = make_model(num_thoughts=2, bridge="linear", **latent)
        settings = EvalSettings(ks=(0, 1, 2, 3), ps=(0.0, 1.0), batch_size=batch_size, max_new_tokens=4)
        return Evaluator(model, tokenizer, TESTS, settings, "latent")

    return build


def test_every_setting_is_measured_once_with_its_controls(evaluator):
    rows = [found.row for found in evaluator().run()]
    settings = [(row.k, row.p, row.control) for row in rows]
    assert settings == [
        (2, 0.0, "none"), (0, None, "none"), (1, 0.0, "none"), (3, 0.0, "none"), (2, 1.0, "none"),
        (2, 0.0, "zero"), (2, 0.0, "noise"), (2, 0.0, "swap"), (2, 0.0, "permute"), (2, 0.0, "pause"),
    ]  # fmt: skip
    for row in rows:
        assert row.total == len(TESTS)
        assert (row.low, row.high) == wilson_interval(row.correct, row.total)
        assert row.strict <= row.correct
        assert row.passes_per_answer == pytest.approx(row.tokens_per_answer + row.k)
        assert row.seconds_per_answer is None, "a single clocking is no time"
        scored = (row.k, row.p, row.control) in ((2, 0.0, "none"), (0, None, "none"), (2, 0.0, "swap"))
        assert (row.answer_logprob or 1) < 0 if scored else row.answer_logprob is None
        assert (row.donor_rate is None) == (row.control != "swap")
        assert row.k_table == ()


def test_where_k_is_learnt_controls_have_as_many_thoughts_as_the_model_chose(make_model, tokenizer):
    model = hesitant(make_model(num_thoughts=2, learned_k=True, max_thoughts=5))
    settings = EvalSettings(ks=(3, 1), ps=(0.5,), batch_size=3, max_new_tokens=4, votes=2, noise=0.2)
    found = Evaluator(model, tokenizer, TESTS, settings, "latent").run()
    keys = [(one.row.k, one.row.p, one.row.control) for one in found]
    assert keys == [
        ("auto", 0.0, "none"), (0, None, "none"), (1, 0.0, "none"), (3, 0.0, "none"), ("auto", 0.5, "none"),
        ("auto", 0.0, "zero"), ("auto", 0.0, "noise"), ("auto", 0.0, "swap"), ("auto", 0.0, "permute"),
        ("auto", 0.0, "pause"), ("auto", 0.0, "none"), (1, 0.0, "none"), (3, 0.0, "none"), ("auto", 0.5, "none"),
    ]  # fmt: skip
    chosen = [item.latent_steps for item in found[0].items]
    assert len(set(chosen)) > 1
    assert found[0].row.latent_steps_per_answer == pytest.approx(sum(chosen) / len(chosen))
    assert found[0].row.passes_per_answer == pytest.approx(found[0].row.tokens_per_answer + sum(chosen) / len(chosen))
    for one in found[5:10]:
        assert [item.latent_steps for item in one.items] == chosen
    assert [item.latent_steps for item in found[11].items] == [2] * len(TESTS)


def test_a_donor_gives_as_many_thoughts_as_are_wanted(evaluator):
    tenths = torch.arange(3)[:, None].expand(-1, 32) / 10
    thoughts = [i + tenths[:length] for i, length in enumerate([3, 0, 1, 2])]
    swapped = evaluator().control_thoughts(thoughts).of("swap")
    assert [one[:, 0].tolist() for one in swapped] == [
        pytest.approx([2.0, 2.0, 2.0]), [], pytest.approx([3.0]), pytest.approx([0.0, 0.1])
    ]  # fmt: skip


def test_a_question_is_tokenised_once_for_all_settings(evaluator, monkeypatch):
    tokenised, original = [], Frame.template_ids
    monkeypatch.setattr(Frame, "template_ids", lambda frame, text: (tokenised.append(text), original(frame, text))[1])
    evaluator(batch_size=7).run()
    texts = [text for example in TESTS for text in (f"{example.question}\n", example.answer)]
    assert sorted(tokenised) == sorted(texts)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_a_models_own_thoughts_put_back_give_its_own_answers(recurrence, evaluator):
    measured = evaluator(recurrence=recurrence)
    own = measured.measure(k=2)
    again = measured.measure(k=2, forced=own.thoughts)
    assert [item.answer for item in again.items] == [item.answer for item in own.items]


def test_a_row_counts_the_passes_of_thoughts_taken_at_once(evaluator):
    row = evaluator(recurrence="parallel", parallel_passes=2).measure(k=3).row
    assert row.latent_steps_per_answer == 3
    assert row.passes_per_answer == pytest.approx(row.tokens_per_answer + 2)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_answers_and_thoughts_do_not_depend_on_the_batch(recurrence, evaluator):
    small, large = evaluator(batch_size=1, recurrence=recurrence), evaluator(batch_size=7, recurrence=recurrence)
    one, all_at_once = small.measure(k=2), large.measure(k=2)
    assert [item.answer for item in one.items] == [item.answer for item in all_at_once.items]
    for a, b in zip(one.thoughts, all_at_once.thoughts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_controls_are_what_they_are_called(evaluator):
    measured = evaluator()
    own = measured.measure(k=2).thoughts
    controls = measured.control_thoughts(own)
    assert all(not thoughts.any() for thoughts in controls.of("zero"))
    for noise, thoughts in zip(controls.of("noise"), own, strict=True):
        torch.testing.assert_close(noise.norm(dim=-1), thoughts.norm(dim=-1))
        assert not torch.allclose(noise, thoughts)
    assert all(torch.equal(a, b) for a, b in zip(controls.of("swap"), [*own[1:], own[0]], strict=True))
    token = measured.model.model.embed_tokens(torch.tensor([8]))[0]
    assert all(torch.equal(thought, token) for thoughts in controls.of("pause") for thought in thoughts)


def test_one_question_has_no_other_to_swap_with(make_model, tokenizer):
    settings = EvalSettings(controls="full", max_new_tokens=2)
    rows = [found.row for found in Evaluator(make_model(num_thoughts=2), tokenizer, TESTS[:1], settings, "a").run()]
    assert {row.control for row in rows} == {
        "none", "zero", "noise", "permute", "pause", "noise_0.25", "noise_0.5", "noise_1", "noise_2",
    }  # fmt: skip


TALKS = [Example(str(digit) * (1 + index % 3), ("s",) * (1 + index % 3), str(digit)) for index, digit in enumerate(
    [3, 7, 1, 3, 9, 7, 5, 5]
)]  # fmt: skip


def thinking_model(answers_from):
    """An `answer_batch` that thinks one step a digit of its question, each holding the digit, and ends there."""

    def answer(model, frame, questions, mode, k, p, forced, tokens):
        asked = [len(question) if k == "auto" else k for question in questions]
        own = [torch.full((n, 32), float(question[0])) for n, question in zip(asked, questions, strict=True)]
        thoughts = own if forced is None else list(forced)
        count = [len(thought) for thought in thoughts]
        said = [answers_from(question, thought) for question, thought in zip(questions, thoughts, strict=True)]
        return Batch([Written(text, "", text, text, True, 2, True) for text in said], 0.1, thoughts, count)

    return answer


def last(question, thought):
    return f"{thought[-1, 0]:.0f}" if len(thought) else "none"


@pytest.fixture
def talks(make_model, tokenizer, monkeypatch):
    """Rows of a model that is given by how it answers: control -> row."""

    def run(answers_from, **latent):
        monkeypatch.setattr(engine, "answer_batch", thinking_model(answers_from))
        monkeypatch.setattr(engine, "score_answers", lambda model, prompts, *rest: [-1.0] * len(prompts))
        settings = EvalSettings(controls="full", batch_size=3)
        found = Evaluator(make_model(num_thoughts=3, **latent), tokenizer, TALKS, settings, "fake").run()
        return {one.row.control: one for one in reversed(found)}  # of control "none" the main one

    return run


def test_what_thoughts_carry_is_told_by_whose_answer_comes(talks):
    found = talks(last)
    rows = {name: one.row for name, one in found.items()}
    assert rows["none"].accuracy == rows["permute"].accuracy == 1.0
    assert rows["noise_0.25"].accuracy > rows["noise_2"].accuracy
    # one neighbour of the eight has the same answer (5, 5), so that a swap is right once and tells nothing there
    assert (rows["swap"].correct, rows["swap"].donor_rate, rows["swap"].donor_total) == (1, 1.0, 7)
    assert [item.donor_correct for item in found["swap"].items] == [True] * 6 + [None, True]
    assert rows["keep_1"].correct == rows["keep_2"].correct == 1
    assert rows["zero"].correct == 0
    ignored = {name: one.row for name, one in talks(lambda question, thought: question[0]).items()}
    assert {row.accuracy for row in ignored.values()} == {1.0}
    assert (ignored["swap"].donor_rate, ignored["swap"].donor_total) == (0.0, 7)


def test_of_a_learnt_k_the_choice_is_counted_and_controls_think_as_long(talks):
    found = talks(last, learned_k=True)
    rows = {name: one.row for name, one in found.items()}
    assert rows["none"].k == "auto"
    assert [item.latent_steps for item in found["none"].items] == [len(example.question) for example in TALKS]
    assert rows["none"].k_table == ((1, 1, 3), (2, 2, 3), (3, 3, 2))
    assert rows["none"].k_right == 1.0
    assert rows["none"].latent_steps_per_answer == pytest.approx(15 / 8)
    assert [item.latent_steps for item in found["swap"].items] == [len(example.question) for example in TALKS]
    # donors with as many thoughts: of K = 1 the digits 3, 3, 5; of 2 the digits 7, 9, 5; of 3 the digits 1 and 7
    assert (rows["swap"].correct, rows["swap"].donor_total) == (1, 7)
    assert [item.latent_steps for item in found["stop_2"].items] == [min(2, len(one.question)) for one in TALKS]
    assert rows["stop_1"].accuracy == 1.0
    # those with no more than two thoughts keep theirs
    assert rows["keep_2"].correct == 6
    assert set(rows) >= {"keep_1", "keep_2", "stop_1", "stop_2"}


def test_wrong_choices_of_k_are_seen(talks, monkeypatch):
    longer = [
        replace(example, steps=("s", *example.steps)) if index < 2 else example for index, example in enumerate(TALKS)
    ]
    monkeypatch.setattr("tests.evaluation.test_engine.TALKS", longer)
    row = talks(last, learned_k=True)["none"].row
    assert row.k_table == ((1, 1, 2), (2, 1, 1), (2, 2, 2), (3, 2, 1), (3, 3, 2))
    assert row.k_right == 6 / 8


def test_a_control_reaches_the_thought_positions(evaluator, tokenizer):
    measured = evaluator()
    frame = Frame(tokenizer, measured.model.config.latent)
    forced = [torch.full((2, 32), float(i)) for i in range(3)]
    record = ThoughtRecord()
    with measured.model.thinking(record=record):
        batch = answer_batch(measured.model, frame, [e.question for e in TESTS[:3]], "latent", 2, forced=forced)
    assert all(torch.equal(thoughts, given) for thoughts, given in zip(batch.thoughts, forced, strict=True))


def test_words_are_split_into_reasoning_and_answer(make_model, tokenizer, monkeypatch):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    ids = tokenizer("12", add_special_tokens=False)["input_ids"]
    rows = [[ids[0], ids[1], EOT, ids[1], frame.end_id], [ids[0]] * 6]
    monkeypatch.setattr(answers, "decode", lambda *args, **more: Decoded(rows, torch.zeros(2), [0, 0]))
    first, second = answer_batch(model, frame, ["1+1=", "1+1="], "words", max_new_tokens=6).answers
    assert (first.reasoning, first.answer, first.tokens, first.complete, first.finished) == ("12", "2", 5, True, True)
    assert (second.reasoning, second.answer, second.tokens, second.finished) == ("111111", "", 6, False)
    assert not second.complete


def test_a_prompt_longer_than_the_model_is_refused(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    with pytest.raises(DataError, match="question 2 of this batch has 2104 tokens"):
        answer_batch(model, frame, ["1", "1" * 2098], "latent", 2)


def test_questions_of_like_length_are_answered_together(make_model, tokenizer, monkeypatch):
    model, asked = make_model(num_thoughts=2), []
    examples = [Example("1" * length, (), "1") for length in (9, 2, 30, 3, 31, 1, 10)]

    def noted(model, frame, questions, *rest):
        asked.append([len(question) for question in questions])
        return answer_batch(model, frame, questions, *rest)

    monkeypatch.setattr(engine, "answer_batch", noted)
    settings = EvalSettings(batch_size=3, max_new_tokens=4)
    batched, single = (
        Evaluator(model, tokenizer, examples, replace(settings, batch_size=size), "latent").run() for size in (3, 1)
    )
    assert asked[:3] == [[30, 31, 10], [9, 2, 3], [1]]
    for together, alone in zip(batched, single, strict=True):
        assert [item.question for item in together.items] == [example.question for example in examples]
        assert [item.answer for item in together.items] == [item.answer for item in alone.items], together.row
    for one, other in zip(batched[0].thoughts, single[0].thoughts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
