"""A log that was cut off anywhere gives the evaluation that nothing interrupted."""

import itertools
import json
from dataclasses import replace

import pytest

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.errors import RunError
from latent_gemma.evaluation import engine, voting
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.items import FILE, read_items
from latent_gemma.evaluation.log import ORIGIN, open_log
from latent_gemma.evaluation.points import EvalSettings

TESTS = list(itertools.islice(chain_examples(ChainConfig(2), "test", 0), 7))
SETTINGS = EvalSettings((1,), (1.0,), batch_size=3, max_new_tokens=4, votes=2, temperatures=(0.5, 1.0), noise=0.5)
ORIGIN_OF_IT = {"model": "a", "data": "b"}


class Killed(BaseException):
    pass


@pytest.fixture
def model(make_model):
    return make_model(num_thoughts=2, bridge="linear")


@pytest.fixture
def generated(monkeypatch):
    """Questions answered, and in how many tokens at most, call by call; raises before call `fail_at`."""
    calls, fail_at = [], []

    def counting(original, place):
        def call(model, frame, questions, *rest, **named):
            if fail_at and len(calls) == fail_at[0]:
                raise Killed
            calls.append((list(questions), named["max_new_tokens"] if place is None else rest[place]))
            return original(model, frame, questions, *rest, **named)

        return call

    monkeypatch.setattr(engine, "answer_batch", counting(engine.answer_batch, 4))
    monkeypatch.setattr(voting, "answer", counting(voting.answer, None))
    return calls, fail_at


def evaluate(model, tokenizer, folder, **changes):
    log = open_log(folder, ORIGIN_OF_IT)
    told = []
    found = Evaluator(model, tokenizer, TESTS, replace(SETTINGS, **changes), "latent", log, told.append).run()
    return [timeless(one) for one in found], sum(told)


def timeless(measured):
    items = [replace(item, seconds=0, peak_mem_gib=0) for item in measured.items]
    return replace(measured.row, peak_mem_gib=0), items


@pytest.mark.parametrize("stop", [1, 13, 30])
def test_an_interrupted_evaluation_goes_on_to_the_same_result(model, tokenizer, generated, tmp_path, stop):
    calls, fail_at = generated
    whole, answers = evaluate(model, tokenizer, tmp_path / "whole")
    needed = len(calls)
    assert answers == 7 * (9 + 3 * 2), "9 settings in one pass, 3 by a vote of 2"
    calls.clear()
    fail_at.append(stop)
    with pytest.raises(Killed):
        evaluate(model, tokenizer, tmp_path / "part")
    before = (tmp_path / "part" / FILE).read_bytes()
    fail_at.clear()
    calls.clear()
    resumed, _ = evaluate(model, tokenizer, tmp_path / "part")
    assert resumed == whole
    assert (tmp_path / "part" / FILE).read_bytes().startswith(before)
    # Thinking again for the controls generates one token and answers nothing.
    answered = [questions for questions, tokens in calls if tokens > 1]
    assert len(answered) == needed - stop, "no finished batch is answered again"
    calls.clear()
    again, answers = evaluate(model, tokenizer, tmp_path / "part")
    assert (again, answers, calls) == (whole, 0, [])


@pytest.mark.parametrize("stop", [9, 38])
def test_curves_of_controls_go_on_to_the_same_result(model, tokenizer, generated, tmp_path, stop):
    calls, fail_at = generated
    changes = {"votes": 0, "controls": "full", "ks": (), "ps": ()}
    whole, answers = evaluate(model, tokenizer, tmp_path / "whole", **changes)
    assert answers == 7 * (3 + 5 + 4 + 1), "K of 2, 0 and 1, five controls, four doses of noise, one thought kept"
    calls.clear()
    fail_at.append(stop)
    with pytest.raises(Killed):
        evaluate(model, tokenizer, tmp_path / "part", **changes)
    fail_at.clear()
    resumed, _ = evaluate(model, tokenizer, tmp_path / "part", **changes)
    assert resumed == whole


def test_a_log_of_an_older_version_is_read(model, tokenizer, tmp_path):
    whole, _ = evaluate(model, tokenizer, tmp_path, votes=0, controls="none", ks=(), ps=())
    path, older = tmp_path / FILE, []
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        for name in ("answer_logprob", "donor_correct", "expected_steps", "mode"):
            del data[name]
        older.append(json.dumps(data))
    path.write_text("".join(f"{line}\n" for line in older), encoding="utf-8")
    unscored = [replace(item, answer_logprob=None, seconds=0, peak_mem_gib=0) for item in whole[0][1]]
    assert [replace(item, seconds=0, peak_mem_gib=0) for item in read_items(path)] == unscored
    path.write_text(older[0].replace('"k"', '"z"') + "\n" + older[1] + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="line 1 is no item"):
        read_items(path)


@pytest.mark.parametrize("keep", [0.4, 0.97])
def test_half_a_line_and_half_a_batch_are_taken_up(model, tokenizer, tmp_path, keep):
    whole, _ = evaluate(model, tokenizer, tmp_path)
    path = tmp_path / FILE
    full = path.read_bytes()
    path.write_bytes(full[: int(len(full) * keep)])
    resumed, _ = evaluate(model, tokenizer, tmp_path)
    assert resumed == whole
    assert len(read_items(path)) == 7 * 12


def test_more_settings_can_be_asked_for_later(model, tokenizer, generated, tmp_path):
    calls, _ = generated
    evaluate(model, tokenizer, tmp_path, votes=0)
    calls.clear()
    found, answers = evaluate(model, tokenizer, tmp_path, votes=0, ks=(1, 3))
    assert answers == len(TESTS)
    assert {row.k for row, _ in found} == {0, 1, 2, 3}


def test_another_origin_is_refused(model, tokenizer, tmp_path):
    evaluate(model, tokenizer, tmp_path, votes=0, controls=False)
    with pytest.raises(RunError, match=r"is an evaluation with another model \(a there, c here\): give another --out"):
        open_log(tmp_path, ORIGIN_OF_IT | {"model": "c"})
    (tmp_path / ORIGIN).write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        open_log(tmp_path, ORIGIN_OF_IT)


def test_answers_to_other_questions_are_not_taken_for_these(model, tokenizer, tmp_path):
    evaluate(model, tokenizer, tmp_path, votes=0, controls=False)
    log = open_log(tmp_path, ORIGIN_OF_IT)
    with pytest.raises(RunError, match="answers to other questions"):
        Evaluator(model, tokenizer, TESTS[1:], SETTINGS, "latent", log).run()


def test_a_damaged_line_in_the_middle_is_named(model, tokenizer, tmp_path):
    evaluate(model, tokenizer, tmp_path, votes=0, controls=False)
    path = tmp_path / FILE
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b'{"label": 1}', *lines[2:]]))
    with pytest.raises(RunError, match="line 2 is no item"):
        open_log(tmp_path, ORIGIN_OF_IT)


def test_any_text_survives_the_log(model, tokenizer, tmp_path):
    evaluate(model, tokenizer, tmp_path, votes=0, controls=False, ks=(), ps=())
    (item, *_) = read_items(tmp_path / FILE)
    strange = replace(item, index=7, answer="a\u2028b\u0085c\x1c\ud83d" + "x" * 1_000_000)
    open_log(tmp_path, ORIGIN_OF_IT).append([strange])
    assert read_items(tmp_path / FILE)[-1] == strange
