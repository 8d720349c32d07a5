"""The Voter and what it measures."""

import pytest

from latent_gemma import Voter
from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation import voting
from latent_gemma.evaluation.vote_rows import measure_vote
from latent_gemma.evaluation.voting import TEMPERATURES
from latent_gemma.generation.answers import Answers
from latent_gemma.model.prompt import Written
from latent_gemma.model.traces import Trace


def trace(answer, logprob=-1.0, complete=True, finished=True):
    text = f"<reasoning>so</reasoning><answer>{answer}</answer>" if complete else answer
    written = Written(answer, "so", text, text, complete, 7, finished)
    return Trace(written, logprob, 1.0)


GROUPS = [
    [trace("4"), trace("4.0"), trace("5"), trace("6", complete=False), trace("", complete=False)],
    [trace("7", -0.1), trace("8"), trace("8"), trace("9"), trace("8", finished=False)],
    [trace("", complete=False)] * 5,
    [trace("the answer is 3", complete=False)] * 5,
]
EXAMPLES = [Example("a", (), "4"), Example("b", (), "7"), Example("c", (), "1"), Example("d", (), "3")]


@pytest.fixture
def voter(make_model, tokenizer, monkeypatch):
    groups = {example.question: group for example, group in zip(EXAMPLES, GROUPS, strict=True)}
    given = lambda questions: Answers([groups[question] for question in questions], [], 0.0)  # noqa: E731
    monkeypatch.setattr(voting, "answer", lambda model, frame, questions, *rest, **settings: given(questions))
    return Voter(make_model(words_format="tags"), tokenizer)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_what_a_vote_is_worth(voter, batch_size):
    measured = measure_vote(voter, EXAMPLES, "x", batch_size)
    row = measured.row
    assert (row.correct, row.strict, row.total, row.complete, row.truncated) == (2, 1, 4, 2, 0)
    assert measured.maj[-1] == pytest.approx(row.accuracy)
    single = (2 + 1 + 0 + 5) / 20
    assert measured.traces == pytest.approx((single, 3 / 20, 8 / 20))
    assert measured.maj[0] == measured.passes[0] == pytest.approx(single)
    assert measured.passes[-1] == pytest.approx(3 / 4)
    assert row.tokens_per_answer == 35
    assert measured.agreement == pytest.approx((2 / 5 + 3 / 5 + 0 + 1) / 4)


def test_one_question(voter):
    voted = voter("b")
    assert (voted.answer, voted.agreement) == ("8", 0.6)
    assert len(voted.traces) == 5
    assert voter("c").answer is None


def test_a_trace_that_was_cut_off_has_no_vote():
    cut = Written("", "so 42", "<reasoning>so 42", "<reasoning>so 42", False, 7, False)
    unsaid = Written("4", "so", "4", "<reasoning>so</reasoning><answer>4", False, 7, False)
    traces = [Trace(cut, 0.0, 1.0)] * 2 + [Trace(unsaid, 0.0, 1.0)] * 2 + [trace("7")]
    assert (voting.elect(traces).answer, voting.elect(traces).votes) == ("7", 1)
    assert voting.elect([*traces, trace("8", finished=False)] * 2).total == 12


def test_equal_expressions_are_one_answer_where_the_grader_says_so():
    def same(predicted, accepted):
        return predicted is not None and sorted(predicted) in [sorted(answer) for answer in accepted]

    traces = [trace("x+1"), trace("2x"), trace("1+x")]
    assert voting.elect(traces).votes == 1
    assert (voting.elect(traces, same).answer, voting.elect(traces, same).votes) == ("x+1", 2)


def test_real_traces_in_words_and_in_thoughts(make_model, tokenizer):
    words = Voter(make_model(num_thoughts=0), tokenizer, max_new_tokens=4)
    assert words.mode == "words"
    assert [t.temperature for t in words("1+2=").traces] == list(TEMPERATURES)
    latent = Voter(make_model(num_thoughts=2), tokenizer, (0.0, 1.0), traces=5, noise_std=1.0, max_new_tokens=4)
    assert (latent.mode, latent.num_thoughts) == ("latent", 2)
    assert [t.temperature for t in latent("1+2=").traces] == [0.0, 1.0, 0.0, 1.0, 0.0]
    measured = measure_vote(latent, [Example("1+2=", (), "3")] * 3, "latent")
    assert measured.row.k == 2
    assert measured.row.passes_per_answer == pytest.approx(measured.row.tokens_per_answer + 10)
    assert measured.row.complete is None


@pytest.mark.parametrize(("temperatures", "traces"), [((), None), ((-1.0,), None), ((0.5,), 0)])
def test_what_cannot_vote_is_refused(make_model, tokenizer, temperatures, traces):
    with pytest.raises(ConfigError):
        Voter(make_model(), tokenizer, temperatures, traces)


def test_every_batch_has_a_seed_of_its_own_and_p_is_put_back(make_model, tokenizer):
    model = make_model(num_thoughts=2)
    voter = Voter(model, tokenizer, (1.0,), traces=3, max_new_tokens=8, p=1.0)
    first, second, again = voter.answer(["1+2="], 0), voter.answer(["1+2="], 16), voter.answer(["1+2="], 16)
    assert second == again
    assert first != second
    assert model.config.latent.p == 0.0
    assert voter.answer(["1+2="]) != Voter(model, tokenizer, (1.0,), traces=3, max_new_tokens=8).answer(["1+2="])
