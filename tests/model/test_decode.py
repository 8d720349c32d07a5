"""The decoding loop: what `generate` gives, at less cost."""

import pytest
import torch

from latent_gemma.generation import decode as decode_module
from latent_gemma.generation.decode import decode
from latent_gemma.model.prompt import Frame, pad_left

QUESTIONS = ["1+2=", "what is 31 + 4?", "7", "12-9="]


def batch_of(frame, mode, thoughts):
    return pad_left([frame.prompt(question, mode, thoughts) for question in QUESTIONS], frame.pad_id)


def cut(row, end_id):
    return row[: row.index(end_id) + 1] if end_id in row else row


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
@pytest.mark.parametrize(("mode", "thoughts", "latent"), [
    ("words", 0, {}),
    ("latent", 3, {"p": 0.5, "adapter": "lora"}),
    ("latent", 2, {"recurrence": "sequence"}),
    ("latent", 3, {"recurrence": "parallel", "parallel_passes": 2, "p": 0.5, "adapter": "lora"}),
])  # fmt: skip
def test_it_gives_what_generate_gives(make_model, tokenizer, family, mode, thoughts, latent):
    model = make_model(family, sliding_window=8, num_thoughts=thoughts, **latent)
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = batch_of(frame, mode, thoughts)
    whole = {"do_sample": False, "pad_token_id": 0, "eos_token_id": -1}
    stock = model.generate(ids, attention_mask=mask, max_new_tokens=14, **whole)
    # an end token that the rows reach at different steps, so that ended rows leave the batch on the way
    written = stock[:, ids.shape[1] :].tolist()
    end_id = max({token for row in written for token in row}, key=lambda t: sum(t in row[:-1] for row in written))
    decoded = decode(model, ids, mask, torch.zeros(4), (end_id,), 14)
    assert decoded.tokens == [cut(row, end_id) for row in written]


@torch.no_grad()
def test_any_of_the_ends_ends_a_row(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = batch_of(frame, "words", 0)
    whole = decode(model, ids, mask, torch.zeros(4), (-1,), 14).tokens
    ends = sorted({row[place] for row, place in zip(whole, (3, 5, 2, 7), strict=True)})
    stock = model.generate(ids, attention_mask=mask, max_new_tokens=14, do_sample=False, pad_token_id=0,
                           eos_token_id=ends)[:, ids.shape[1] :].tolist()  # fmt: skip
    found = decode(model, ids, mask, torch.zeros(4), ends, 14).tokens
    first = [min(row.index(end) for end in ends if end in row) for row in whole]
    assert found == [row[: place + 1] for row, place in zip(whole, first, strict=True)]
    assert found == [row[: place + 1] for row, place in zip(stock, first, strict=True)]


def test_ended_rows_leave_the_batch_and_change_nothing(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = batch_of(frame, "words", 0)
    sizes = []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))

    def sampled(end_id):
        sizes.clear()
        return decode(model, ids, mask, torch.ones(4), (end_id,), 24, generator=torch.Generator().manual_seed(3))

    whole = sampled(-1)
    assert sizes == [4] * 24
    for end_id in sorted({token for row in whole.tokens for token in row})[:8]:
        decoded = sampled(end_id)
        assert decoded.tokens == [cut(row, end_id) for row in whole.tokens]
        lengths = sorted(map(len, decoded.tokens))
        assert len(sizes) == lengths[-1]
        if lengths[1] < lengths[2]:  # two rows end before the others
            assert sizes[lengths[1]] == 2


def test_scores_are_made_a_few_rows_at_a_time(make_model, tokenizer, monkeypatch):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = batch_of(frame, "words", 0)
    whole = decode(model, ids, mask, torch.zeros(4), frame.end_ids, 8)
    monkeypatch.setitem(decode_module.SCORE_BYTES, "cpu", 3 * 4 * model.config.vocab_size)
    sizes, project = [], model.project
    monkeypatch.setattr(model, "project", lambda hidden: sizes.append(len(hidden)) or project(hidden), raising=False)
    parts = decode(model, ids, mask, torch.zeros(4), frame.end_ids, 8)
    assert sizes[:2] == [3, 1]
    assert parts.tokens == whole.tokens
    assert torch.allclose(parts.logprobs, whole.logprobs, atol=1e-5)
