"""K "auto": a model ends its thinking where its own head prefers the end, whatever the batch, the engine, the cache."""

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LogitsProcessor

from latent_gemma.errors import ConfigError, DataError, ModelError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import answer, choose_thoughts
from latent_gemma.generation.decode import decode
from latent_gemma.model import ThoughtRecord
from latent_gemma.model.adapters import thought_phase
from latent_gemma.model.prompt import Frame, pad_left
from tests.conftest import BOT, EOT, THOUGHT, every_family, hesitant
from tests.properties.test_rollout import randomise_latent_part

QUESTIONS = ["1+2=", "what is 31 + 4?", "7", "12-9=", "3*3=", "0"]
LATENTS = [{}, {"p": 0.4, "bridge": "linear", "adapter": "lora"}]
every_latent = pytest.mark.parametrize("latent", LATENTS, ids=["plain", "mixed"])
every_way = pytest.mark.parametrize("way", [lambda model: None, FastSteps], ids=["stock", "fast"])


@pytest.fixture
def thinker(make_model, tokenizer):
    """A model whose rows stop thinking at different steps, and its frame."""

    def build(family="gemma2", scale=12.0, **latent):
        settings = {"num_thoughts": 4, "learned_k": True, "max_thoughts": 6, **latent}
        model = hesitant(randomise_latent_part(make_model(family, sliding_window=8, **settings)), scale)
        return model, Frame(tokenizer, model.config.latent)

    return build


def prompts_of(frame, k="auto"):
    ks = k if isinstance(k, list) else [k] * len(QUESTIONS)
    return [frame.prompt(question, "latent", one) for question, one in zip(QUESTIONS, ks, strict=True)]


def decoded(model, frame, prompts, tokens=5, temperature=0.0, seed=0, end=-1):
    ids, mask = pad_left(prompts, frame.pad_id)
    most = model.config.latent.most_thoughts if prompts[0][-1] == BOT else None
    generator = torch.Generator().manual_seed(seed)
    cold = torch.full((len(ids),), temperature)
    return decode(model, ids, mask, cold, (end,), tokens, generator=generator, most_thoughts=most)


def plainly(model, prompt, tokens, most):
    """One greedy answer, written plainly: the whole prefix anew for every position, thoughts by the formula."""
    latent, decoder = model.config.latent, model.model
    ids, fed = list(prompt), {}

    def final():
        embeds = decoder.embed_tokens(torch.tensor([ids]))
        for place, thought in fed.items():
            embeds[0, place] = thought
        at = torch.tensor([[i in fed for i in range(len(ids))]])
        if latent.adapter == "none":
            return decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[0, -1]
        with thought_phase(at[:, :, None]):
            return decoder.decoder_call(inputs_embeds=embeds, use_cache=False).last_hidden_state[0, -1]

    taken, answers = 0, []
    while True:
        hidden = final()
        logits = model.project(hidden)
        if ids[-1] in (BOT, THOUGHT):
            if logits.softmax(-1)[EOT] > 0.5 or taken == most:
                ids.append(EOT)
                continue
            unit = hidden / (hidden.pow(2).mean() + 1e-12).sqrt()
            vector = unit * latent.embed_rms
            if decoder.bridge is not None:
                norm, out = decoder.bridge.norm, decoder.bridge.out
                normed = nn.functional.layer_norm(unit, unit.shape, norm.weight, norm.bias)
                vector = (unit + out(normed)) * latent.embed_rms
            logits[[THOUGHT, EOT]] = -torch.inf
            token = decoder.embed_tokens(logits.argmax()[None])[0]
            fed[len(ids)] = latent.p * token + (1 - latent.p) * vector
            ids.append(THOUGHT)
            taken += 1
            continue
        logits[THOUGHT] = -torch.inf
        ids.append(int(logits.argmax()))
        answers.append(ids[-1])
        if len(answers) == tokens:
            return taken, answers


@every_family
@every_latent
@torch.no_grad()
def test_it_is_the_plain_loop_in_double_precision(family, latent, thinker, true_double):
    model, frame = thinker(family, **latent)
    model.double()
    found = decoded(model, frame, prompts_of(frame))
    plain = [plainly(model, prompt, 5, 6) for prompt in prompts_of(frame)]
    assert [*zip(found.num_thoughts, found.tokens, strict=True)] == plain
    assert len(set(found.num_thoughts)) > 1, "every row thinks alike: nothing is tested"


@every_family
@every_latent
@every_way
def test_a_batch_is_its_rows_and_the_number_it_chose(family, latent, way, thinker):
    model, frame = thinker(family, **latent)
    with model.thinking(steps=way(model)):
        together = decoded(model, frame, prompts_of(frame))
        alone = [decoded(model, frame, [prompt]) for prompt in prompts_of(frame)]
        told = decoded(model, frame, prompts_of(frame, together.num_thoughts))
    assert together.num_thoughts == [one.num_thoughts[0] for one in alone]
    assert together.tokens == [one.tokens[0] for one in alone] == told.tokens
    torch.testing.assert_close(together.logprobs, told.logprobs, rtol=1e-3, atol=1e-3)
    assert choose_thoughts(model, prompts_of(frame), 0) == together.num_thoughts
    assert not any(THOUGHT in row for row in together.tokens)


@every_family
@every_latent
def test_generate_takes_the_same_thoughts(family, latent, thinker):
    model, frame = thinker(family, **latent)
    expected = decoded(model, frame, prompts_of(frame))
    questions = [frame.question_ids(question) for question in QUESTIONS]
    left, mask = pad_left(questions, 0)
    right = torch.tensor([row + [0] * (left.shape[1] - len(row)) for row in questions])
    options = {"num_thoughts": "auto", "max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    texts = []
    for ids, attention, settings in (
        (left, mask, {}), (right, (right != 0).long(), {}), (left, mask, {"use_cache": False}),
        (left, mask, {"cache_implementation": "static", "disable_compile": True}),
    ):  # fmt: skip
        rows = model.generate(ids, attention_mask=attention, **options, **settings)[:, left.shape[1] :].tolist()
        for row, k, tokens in zip(rows, expected.num_thoughts, expected.tokens, strict=True):
            start = k + 2  # behind `bot`, the thoughts and `eot`
            assert row[:start] == [0] * start
            assert row[start : start + 5] == tokens
            assert not any(row[start + 5 :])
        texts.append(rows)
    assert all(rows == texts[0] for rows in texts)


def test_the_models_own_number_is_auto_where_it_learnt_it(thinker, tokenizer):
    model, frame = thinker()
    ids = torch.tensor([frame.question_ids("1+2=")])
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    model.tokenizer = tokenizer
    asked = model.generate(ids, num_thoughts="auto", **options)
    assert torch.equal(model.generate(ids, **options), asked)
    model.set_latent(learned_k=False)
    assert torch.equal(model.generate(ids, **options), model.generate(ids, num_thoughts=4, **options))


class OneEnd(LogitsProcessor):
    """No second `eot`, which an answer of these heads would be full of."""

    def __call__(self, input_ids, scores):
        ended = (input_ids == EOT).any(-1)
        without = scores.masked_fill(torch.arange(scores.shape[1]) == EOT, -torch.inf).log_softmax(-1)
        return torch.where(ended[:, None], without, scores)


@every_family
def test_the_best_beam_is_that_of_the_number_that_was_chosen(family, thinker):
    # sure of when to stop, so that no beam gains or loses by another number
    model, frame = thinker(family, scale=2000.0)
    found = decoded(model, frame, prompts_of(frame))
    assert len(set(found.num_thoughts)) > 1
    options = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False, "length_penalty": 0.0}
    options |= {"eos_token_id": None, "pad_token_id": 0, "logits_processor": [OneEnd()]}
    ids, mask = pad_left([frame.question_ids(question) for question in QUESTIONS], 0)
    together = model.generate(ids, attention_mask=mask, num_thoughts="auto", **options)
    answers = []
    for row, question, k in zip(together, QUESTIONS, found.num_thoughts, strict=True):
        one = torch.tensor([frame.question_ids(question)])
        start = k + 2  # behind `bot`, the thoughts and `eot`
        told = model.generate(one, num_thoughts=k, **options)[0, one.shape[1] + start :].tolist()
        auto = model.generate(one, num_thoughts="auto", **options)[0, one.shape[1] :].tolist()
        assert auto == [0] * start + told
        assert row[ids.shape[1] :].tolist()[: start + 5] == auto
        answers.append(told)
    greedy = model.generate(ids, attention_mask=mask, num_thoughts="auto", **options | {"num_beams": 1})
    assert not torch.equal(greedy, together), "no beam was reordered: nothing is tested"


def test_drafts_change_nothing(thinker, make_model):
    model, frame = thinker()
    plain_gemma = Gemma2ForCausalLM(Gemma2Config(**{**make_model().config.to_dict(), "model_type": "gemma2"})).eval()
    options = {"num_thoughts": "auto", "max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for question in QUESTIONS[:3]:
        ids = torch.tensor([frame.question_ids(question)])
        plain = model.generate(ids, **options)[0]
        for draft in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": plain_gemma}):
            drafted = model.generate(ids, **options, **draft)[0]
            assert drafted[: len(plain)].tolist() == plain.tolist()
            assert not drafted[len(plain) :].any()
    with pytest.raises(ModelError, match="draft"):
        model.generate(ids, **options, assistant_model=model)


def test_a_number_is_drawn_with_the_heads_probabilities(thinker):
    model, frame = thinker("gemma")
    prompt, draws, temperature, wanted = (
        frame.prompt("1+2=", "latent", "auto"),
        3000,
        1.3,
        [0.1, 0.3, 0.2, 0.6, 0.4, 0.5],
    )
    with torch.no_grad():
        states = torch.cat(
            [model.model(torch.tensor([[*prompt, *[THOUGHT] * k]])).last_hidden_state[:, -1] for k in range(6)]
        )
        others = model.project(states)
        others[:, EOT] = -torch.inf
        # a head that stops with these probabilities
        odds = torch.tensor(wanted).logit() * temperature
        model.lm_head.weight[EOT] = torch.linalg.pinv(states) @ (others.logsumexp(-1) + odds)
    exact, rest = [], 1.0
    for stop in [*wanted, 1.0]:
        exact.append(rest * stop)
        rest *= 1.0 - stop

    def assert_drawn(ks):
        shares = torch.bincount(torch.tensor(ks), minlength=7) / draws
        for share, probability in zip(shares.tolist(), exact, strict=True):
            assert abs(share - probability) < 5 * (probability * (1 - probability) / draws) ** 0.5

    assert_drawn(decoded(model, frame, [prompt] * draws, 0, temperature).num_thoughts)
    options = {"do_sample": True, "temperature": temperature, "top_k": 0, "eos_token_id": None, "pad_token_id": 0}
    ids = torch.tensor([prompt]).expand(draws, -1)
    torch.manual_seed(5)
    rows = model.generate(ids, num_thoughts="auto", max_new_tokens=1, suppress_tokens=[0], **options)
    assert_drawn(((rows[:, len(prompt) :] == 0).int().cumprod(-1).sum(-1) - 1).tolist())


@every_family
def test_at_p_one_it_is_words_until_the_head_prefers_the_end(family, thinker):
    model, frame = thinker(family, scale=40.0, p=1.0)
    record, ended = ThoughtRecord(), 0
    with model.thinking(record=record):
        found = decoded(model, frame, prompts_of(frame))
    thought = torch.stack(record.tokens, 1).tolist()
    for row, prompt in enumerate(prompts_of(frame)):
        k = found.num_thoughts[row]
        words = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None,
                               pad_token_id=0)[0, len(prompt) :].tolist()  # fmt: skip
        first = words.index(EOT) if EOT in words[:6] else 6
        assert k >= first, "what has more than half of the probability is the best one"
        assert thought[row][:first] == words[:first]
        if k == first < 6:
            assert words[k : k + 6] == [EOT, *found.tokens[row]]
            ended += 1
    assert ended


def test_the_bound_ends_what_would_go_on(thinker):
    model, frame = thinker()
    with torch.no_grad():
        model.lm_head.weight[EOT] = 0.0
    model.set_latent(max_thoughts=3)
    frame = Frame(frame.tokenizer, model.config.latent)
    found = decoded(model, frame, prompts_of(frame))
    assert found.num_thoughts == [3] * 6
    assert [len(row) for row in found.tokens] == [5] * 6
    model.set_latent(max_thoughts=0)
    assert decoded(model, frame, prompts_of(frame)).num_thoughts == [0] * 6


def test_what_is_fed_back_is_neither_thought_nor_end(thinker):
    model, frame = thinker(scale=40.0, p=0.5)
    with torch.no_grad():
        model.lm_head.weight[THOUGHT] = -model.lm_head.weight[EOT]
    record = ThoughtRecord()
    with model.thinking(record=record):
        decoded(model, frame, prompts_of(frame, 6))
    scores = model.project(torch.stack(record.source, 1))
    best = scores.argmax(-1)
    assert {THOUGHT, EOT} <= {*best.flatten().tolist()}, "never the best ones: nothing is tested"
    scores[..., [THOUGHT, EOT]] = -torch.inf
    assert torch.equal(torch.stack(record.tokens, 1), scores.argmax(-1))


@every_way
def test_traces_their_numbers_and_their_thoughts(way, thinker):
    model, frame = thinker(p=0.4)
    settings = {"temperatures": [0.0, 1.0, 2.0], "max_new_tokens": 5, "seed": 3}
    with model.thinking(steps=way(model)):
        found = answer(model, frame, QUESTIONS, "latent", "auto", noise_std=0.1, **settings)
        cold = answer(model, frame, QUESTIONS, "latent", "auto", max_new_tokens=5)
        warm = answer(model, frame, QUESTIONS, "latent", "auto", **settings)
    for group, thoughts in zip(found.traces, found.thoughts, strict=True):
        assert [trace.num_thoughts for trace in group] == [len(thought) for thought in thoughts]
    assert len({trace.num_thoughts for group in found.traces for trace in group}) > 2
    for traces, (greedy,) in zip(warm.traces, cold.traces, strict=True):
        assert traces[0].num_thoughts == greedy.num_thoughts
        assert traces[0].written == greedy.written


def test_parallel_thoughts_stop_where_thoughts_one_by_one_do(thinker):
    model, frame = thinker()
    chosen = choose_thoughts(model, prompts_of(frame), frame.pad_id)
    found = answer(model, frame, QUESTIONS, "latent", "auto", max_new_tokens=5)
    model.set_latent(recurrence="parallel")  # in as many passes as there are thoughts
    frame = Frame(frame.tokenizer, model.config.latent)
    assert choose_thoughts(model, prompts_of(frame), frame.pad_id) == chosen
    assert len(set(chosen)) > 1
    again = answer(model, frame, QUESTIONS, "latent", "auto", max_new_tokens=5)
    assert [trace.num_thoughts for (trace,) in again.traces] == chosen
    assert [trace.written for (trace,) in again.traces] == [trace.written for (trace,) in found.traces]
    model.set_latent(parallel_passes=1)
    alone = [choose_thoughts(model, [prompt], frame.pad_id)[0] for prompt in prompts_of(frame)]
    assert choose_thoughts(model, prompts_of(frame), frame.pad_id) == alone


@pytest.mark.parametrize("recurrence", ["append", "sequence"])
def test_forced_thoughts_may_differ_in_number(recurrence, thinker):
    model, frame = thinker(recurrence=recurrence, learned_k=False)
    ks = [2, 0, 3, 1, 2, 4]
    own = answer(model, frame, QUESTIONS, "latent", ks, max_new_tokens=5)
    for question, k, (thought,), (trace,) in zip(QUESTIONS, ks, own.thoughts, own.traces, strict=True):
        alone = answer(model, frame, [question], "latent", k, max_new_tokens=5)
        assert trace.num_thoughts == k
        assert trace.written == alone.traces[0][0].written
        if k:
            torch.testing.assert_close(thought, alone.thoughts[0][0], rtol=1e-4, atol=1e-4)
    given = [thought for (thought,) in own.thoughts]
    again = answer(model, frame, QUESTIONS, "latent", ks, forced=given, max_new_tokens=5)
    assert [trace.written for (trace,) in again.traces] == [trace.written for (trace,) in own.traces]
    zeros = [torch.zeros_like(thought) for (thought,) in own.thoughts]
    other = answer(model, frame, QUESTIONS, "latent", ks, forced=zeros, max_new_tokens=5)
    for (thought,), zero, k in zip(other.thoughts, zeros, ks, strict=True):
        assert k == 0 or torch.equal(thought, zero)
    if recurrence == "append":
        auto = answer(model, frame, QUESTIONS, "latent", "auto", forced=zeros, max_new_tokens=5)
        assert [trace.written for (trace,) in auto.traces] == [trace.written for (trace,) in other.traces]


def test_what_cannot_be_asked_is_refused_in_a_line(thinker):
    model, frame = thinker(recurrence="sequence")
    ids = torch.tensor([frame.question_ids("1")])
    with pytest.raises(ConfigError, match='in recurrence "sequence"'):
        answer(model, frame, ["1"], "latent", "auto")
    with pytest.raises(ConfigError, match="in recurrence 'sequence'"):
        model.generate(ids, num_thoughts="auto")
    model.set_latent(recurrence="append", max_thoughts=3000)
    with pytest.raises(DataError, match="the model takes 2048"):
        answer(model, Frame(frame.tokenizer, model.config.latent), ["1"], "latent", "auto")
