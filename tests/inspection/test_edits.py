"""Thoughts that are taken out and replaced: against the controls, the stock decoder and a teacher-forced pass."""

import math

import pytest
import torch

from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.control_thoughts import ControlThoughts
from latent_gemma.generation.answers import answer
from latent_gemma.inspection.edits import Thinker
from latent_gemma.model.feedback import latent_from_hidden
from tests.conftest import EOT, THOUGHT, hesitant

QUESTION, K = "7+5*3=", 4


@pytest.fixture
def thinker(make_model, tokenizer):
    """thinker(family, **latent settings): one that answers with few tokens."""

    def build(family="gemma2", seed=0, **latent):
        return Thinker(make_model(family, seed=seed, trained_for="latent", **latent), tokenizer, max_new_tokens=5)

    return build


def last(stream):
    *_, written = stream
    return written


def plain(thinker, k=K, p=None, forced=None):
    """As evaluations answer."""
    found = answer(
        thinker.model, thinker.frame, [QUESTION], "latent", k, p, None if forced is None else [forced], max_new_tokens=5
    )
    return found.traces[0][0].written, found.thoughts[0][0]


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("follow", [True, False])
def test_editing_nothing_is_the_plain_answer_bit_for_bit(family, p, follow, thinker):
    one = thinker(family)
    thoughts = one.think(QUESTION, K, p)
    edited = one.edit(thoughts, {}, follow)
    written, inputs = plain(one, p=p)
    assert torch.equal(thoughts.inputs, inputs)
    assert torch.equal(edited.inputs, inputs)
    assert last(one.answer(thoughts)) == last(one.answer(edited)) == written


@pytest.mark.parametrize("kind", ["zero", "noise"])
def test_editing_all_is_the_control(kind, thinker):
    one = thinker(seed=3)
    thoughts = one.think(QUESTION, K)
    edits = {place: one.replacement(thoughts, place, kind, seed=5) for place in range(K)}
    control = ControlThoughts([thoughts.inputs], thoughts.inputs[:1], 5).of(kind)[0]
    written, _ = plain(one, forced=control)
    for follow in (True, False):
        edited = one.edit(thoughts, edits, follow)
        assert torch.equal(edited.inputs, control)
        assert last(one.answer(edited)) == written
    assert written != last(one.answer(thoughts)), "this seed shows the difference"


@pytest.mark.parametrize("recurrence", ["append", "parallel"])
def test_others_are_kept(recurrence, thinker):
    one = thinker(recurrence=recurrence)
    thoughts, other = one.think(QUESTION, K), one.think("1+1=", 2)
    edited = one.edit(thoughts, {1: one.replacement(thoughts, 1, "swap", other.inputs[0])}, recurrence == "parallel")
    expected = thoughts.inputs.clone()
    expected[1] = other.inputs[0]
    if recurrence == "append":
        assert torch.equal(edited.inputs[:2], expected[:2])
    edited = one.edit(thoughts, {1: other.inputs[0]}, False)
    assert torch.equal(edited.inputs, expected)


def test_later_thoughts_follow_as_the_stock_decoder_gives_them(thinker):
    """By hand: every input so far through the decoder without its thoughts, whose last state is fed back."""
    one = thinker(p=0.0)
    decoder = one.model.model
    thoughts = one.think(QUESTION, K)
    put = one.replacement(thoughts, 1, "token", token="x")
    edited = one.edit(thoughts, {1: put}, True)
    ids = torch.tensor([one.frame.prompt(QUESTION, "latent", "auto")])
    with torch.no_grad():
        embeds = torch.cat([decoder.embed_tokens(ids), edited.inputs[None, :2]], dim=1)
        for k in (2, 3):
            state = decoder.decoder_call(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, -1]
            fed = latent_from_hidden(state, None, decoder.config.latent.embed_rms)
            torch.testing.assert_close(edited.inputs[k], fed[0], rtol=1e-4, atol=1e-5)
            embeds = torch.cat([embeds, fed[:, None]], dim=1)
    assert torch.equal(edited.inputs[0], thoughts.inputs[0])
    assert torch.equal(edited.inputs[1], put)
    assert not torch.allclose(edited.inputs[2], thoughts.inputs[2])


def test_at_p_1_a_thought_is_the_token_it_says(thinker):
    one = thinker()
    thoughts = one.think(QUESTION, K, 1.0)
    for place, step in enumerate(thoughts.steps):
        said = next(token for token in step.ids if token not in (THOUGHT, EOT))
        assert torch.equal(one.replacement(thoughts, place, "token", token=said), thoughts.inputs[place])
    typed = one.replacement(thoughts, 0, "token", token="7")
    assert torch.equal(typed, one.replacement(thoughts, 0, "token", token=one.frame.text_ids("7")[0]))


@pytest.mark.parametrize("latent", [{}, {"p": 0.5}, {"recurrence": "parallel"}, {"adapter": "lora"}])
def test_odds_are_those_of_a_teacher_forced_pass(latent, thinker):
    one = thinker(**latent)
    thoughts = one.think(QUESTION, K)
    edited = one.edit(thoughts, {0: torch.zeros(32)}, True)
    answers = [last(one.answer(several)) for several in (thoughts, edited)]
    for several, row in zip((thoughts, edited), one.odds([thoughts, edited], answers), strict=True):
        for written, probability in zip(answers, row, strict=True):
            prompt = one.frame.prompt(QUESTION, "latent", K)
            target = one.frame.text_ids(written.answer) + ([one.frame.end_id] if written.finished else [])
            with torch.no_grad(), one.model.thinking(forced=several.inputs[None]):
                logits = one.model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1)[range(len(target)), target].sum().item()
            assert probability == pytest.approx(math.exp(chosen), rel=1e-3)


def test_what_it_stops_at_and_what_is_expected(make_model, tokenizer):
    model = hesitant(make_model(trained_for="latent", learned_k=True, num_thoughts=6, step_separator=""))
    one = Thinker(model, tokenizer, max_new_tokens=5)
    ended = 0
    for n in range(20):
        thoughts = one.think(f"{n}+3=", "auto", written=("4", "56"))
        stops = [step.stop for step in thoughts.steps]
        assert all(stop < 0.5 for stop in stops[:-1])
        ended += bool(stops) and stops[-1] > 0.5
        assert not stops or stops[-1] > 0.5 or len(stops) == model.config.latent.most_thoughts
        assert thoughts.expected == ("4", "6", *[""] * 20)[: len(stops)]
    assert ended >= 3


def test_what_cannot_be_replaced_is_told(thinker):
    one = thinker()
    thoughts = one.think(QUESTION, 2)
    with pytest.raises(ConfigError, match="no thought 3"):
        one.replacement(thoughts, 2, "zero")
    with pytest.raises(ConfigError, match="is 2 tokens"):
        one.replacement(thoughts, 0, "token", token="12")
    with pytest.raises(ConfigError, match="no other thought"):
        one.replacement(thoughts, 0, "swap")
    with pytest.raises(DataError, match="tokens"):
        one.think("1" * 3000, 2)
    again = thinker(recurrence="sequence")
    with pytest.raises(ConfigError, match="sequence"):
        again.replacement(again.think(QUESTION, 2), 0, "zero")
    assert len(again.think(QUESTION, 2).steps) == 2


def test_a_model_of_words_has_no_thoughts(make_model, tokenizer):
    one = Thinker(make_model(trained_for="words"), tokenizer, max_new_tokens=5)
    thoughts = one.think(QUESTION, 3)
    assert thoughts.steps == ()
    [[trace]] = answer(one.model, one.frame, [QUESTION], "words", max_new_tokens=5).traces
    assert last(one.answer(thoughts)) == trace.written
