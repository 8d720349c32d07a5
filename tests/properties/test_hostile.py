"""Properties that hold for any prompt, any thoughts and any labels, on tiny models."""

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_gemma.errors import ModelError
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame, append_thoughts, pad_left
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.training.losses import latent_loss
from tests.conftest import BOT, EOT, RECURRENCES, THOUGHT

TOKENIZER = build_tokenizer()
CHAT = build_tokenizer()
CHAT.chat_template = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SPECIAL = [token.content for token in TOKENIZER.added_tokens_decoder.values()]
SPECIAL_IDS = set(TOKENIZER.added_tokens_decoder)
texts = st.lists(st.sampled_from([*SPECIAL, "<", ">", "unused1>", "1+1=", "\n", "猫"]) | st.text(max_size=5)).map(
    "".join
)


def bounded(examples):
    return settings(derandomize=True, max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def tiny(family="gemma2", **latent):
    latent = LatentConfig(**{"embed_rms": None, **latent})
    return build_tiny(family, latent, hidden_size=32, num_layers=2, num_heads=2, sliding_window=4).eval()


MODELS = {
    (family, recurrence): tiny(family, recurrence=recurrence, p=0.3)
    for family in ("gemma2", "gemma3")
    for recurrence in RECURRENCES
}


@given(texts, st.integers(0, 5))
@bounded(300)
def test_what_spells_a_special_token_stays_text(text, k):
    frame = Frame(TOKENIZER, LatentConfig())
    assert not set(frame.text_ids(text)) & SPECIAL_IDS
    assert TOKENIZER.decode(frame.text_ids(text)) == text.replace("\ufdd0", "")
    prompt = frame.prompt(text, "latent", k)
    assert [i for i in prompt if i in SPECIAL_IDS] == [TOKENIZER.bos_token_id, BOT, *[THOUGHT] * k, EOT]


@given(texts)
@bounded(150)
def test_a_question_cannot_end_its_turn(text):
    frame = Frame(CHAT, LatentConfig(system="Think."))
    prompt = frame.question_ids(text)
    turns = [CHAT.convert_tokens_to_ids(name) for name in ("<start_of_turn>", "<end_of_turn>")]
    assert [i for i in prompt if i in SPECIAL_IDS] == [CHAT.bos_token_id, *turns, turns[0]]
    asked = re.sub("\ufdd0", "", f"Think.\n\n{text}").strip()
    assert CHAT.decode(prompt) == f"<bos><start_of_turn>user\n{asked}<end_of_turn>\n<start_of_turn>model\n"


rows = st.builds(
    lambda question, k, answer: [*question, BOT, *[THOUGHT] * k, EOT, *answer],
    st.lists(st.integers(12, 260), max_size=9),
    st.integers(0, 6),  # larger than the window of 4
    st.lists(st.integers(12, 260), max_size=4),
)


@pytest.mark.parametrize(("family", "recurrence"), MODELS)
def test_any_ragged_batch_equals_its_rows_alone(family, recurrence):
    model = MODELS[family, recurrence]

    @given(st.lists(rows, min_size=2, max_size=4))
    @bounded(12)
    @torch.no_grad()
    def check(batch):
        ids, mask = pad_left(batch, 0)
        together = model(ids, attention_mask=mask).logits
        for row, logits in zip(batch, together, strict=True):
            alone = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(logits[-len(row) :], alone, rtol=1e-3, atol=1e-4)

    check()


@pytest.mark.parametrize(("family", "recurrence"), MODELS)
def test_thoughts_and_padding_anywhere_are_finite_or_refused(family, recurrence):
    model = MODELS[family, recurrence]
    seen = {"refused": 0, "finite": 0}

    @given(st.integers(1, 3), st.integers(1, 8), st.data())
    @bounded(40)
    @torch.no_grad()
    def check(batch, length, data):
        draw = st.lists(st.lists(st.sampled_from([0, 20, 30, BOT, THOUGHT, THOUGHT, EOT]), min_size=length,
                                 max_size=length), min_size=batch, max_size=batch)  # fmt: skip
        ids = torch.tensor(data.draw(draw))
        mask = (ids != 0).long()
        try:
            logits = model(ids, attention_mask=mask).logits
        except ModelError:
            seen["refused"] += 1
            return
        assert torch.isfinite(logits).all()
        seen["finite"] += 1
        first = (ids == THOUGHT).int().argmax(-1)
        for row, column in enumerate(first.tolist()):
            if ids[row, column] == THOUGHT:
                assert column > 0, "a thought at position 0"
                assert mask[row, column - 1], "a thought behind padding"

    check()
    assert min(seen.values()) >= 5, seen
    assert sum(seen.values()) >= 40


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_the_loss_is_never_nan(recurrence):
    model = tiny(recurrence=recurrence, bridge="linear").train()

    @given(
        st.lists(rows, min_size=1, max_size=3),
        st.sampled_from([0.0, 0.7]),
        st.sampled_from(["some", "none"]),
        st.integers(0, 9),
    )
    @bounded(25)
    def check(batch, weight, masked, seed):
        ids, mask = pad_left(batch, 0)
        generator = torch.Generator().manual_seed(seed)
        share = 0.0 if masked else 0.3
        drawn = [(torch.rand(ids.shape, generator=generator) < share) & mask.bool() for _ in range(2)]
        labels, anchors = (torch.where(one, ids, -100) for one in drawn)
        losses = latent_loss(
            model, {"input_ids": ids, "attention_mask": mask, "labels": labels, "anchors": anchors}, weight
        )
        assert torch.isfinite(losses.total)
        model.zero_grad()
        losses.total.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        if masked:
            assert losses.total.item() == 0.0

    check()


@given(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6))
@bounded(20)
@torch.no_grad()
def test_empty_prompts_and_only_padding_still_answer(length, padding, k):
    model = MODELS["gemma2", "append"]
    ids = torch.full((2, length + padding), 20)
    mask = torch.ones_like(ids)
    ids[0, : length + padding], mask[0, : length + padding] = 0, 0  # the first row is padding alone
    written = model.generate(
        ids, attention_mask=mask, num_thoughts=k, max_new_tokens=3, do_sample=False, pad_token_id=0, min_new_tokens=3
    )
    assert written.shape == (2, length + padding + k + 5)
    assert not (written[:, -3:] == THOUGHT).any()
    asked = append_thoughts(ids[:1], mask[:1], model.config.latent, k, 0)
    alone = model.generate(torch.tensor([[BOT, *[THOUGHT] * k, EOT]]), max_new_tokens=3, do_sample=False,
                           pad_token_id=0, min_new_tokens=3)  # fmt: skip
    assert asked.input_ids[asked.attention_mask.bool()].tolist() == alone[0, : k + 2].tolist()
    assert written[0, -3:].tolist() == alone[0, -3:].tolist(), "padding says nothing"
