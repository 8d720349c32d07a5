"""Frames: what a prompt looks like, and how what follows it is taken apart."""

import pytest

from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.text.tags import write_tagged

BOT, EOT = 7, 9
#: Gemma's template in short: it refuses a system role.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.fixture
def chat_tokenizer():
    from latent_gemma.model.tiny import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_system_text_is_folded_into_the_users_turn(chat_tokenizer):
    frame = Frame(chat_tokenizer, LatentConfig(words_format="tags", system="Show your work."))
    prompt = chat_tokenizer.decode(frame.prompt("Solve 24 + 15", "words"))
    assert prompt == ("<bos><start_of_turn>user\nShow your work.\n\nSolve 24 + 15<end_of_turn>\n<start_of_turn>model\n")
    assert frame.end_id == chat_tokenizer.convert_tokens_to_ids("<end_of_turn>")


def test_a_chat_model_may_end_the_text_instead_of_its_turn(chat_tokenizer):
    for words_format, mode in (("markers", "latent"), ("markers", "words"), ("tags", "words")):
        frame = Frame(chat_tokenizer, LatentConfig(words_format=words_format))
        turn, text = frame.end_ids
        assert (turn, text) == (frame.end_id, chat_tokenizer.eos_token_id)
        before = [EOT] if (words_format, mode) == ("markers", "words") else []
        answer, more = ids(chat_tokenizer, "42"), ids(chat_tokenizer, "xyz")
        for end in frame.end_ids:
            written = frame.read([*before, *answer, end, *more, turn], mode)
            assert (written.answer, written.finished, written.tokens) == ("42", True, len(before) + len(answer) + 1)


def test_without_a_template_it_stands_before_the_question(tokenizer):
    frame = Frame(tokenizer, LatentConfig(words_format="tags", system="Show your work."))
    assert tokenizer.decode(frame.prompt("1+2", "words")) == "<bos>Show your work.\n1+2\n"
    assert frame.end_id == tokenizer.eos_token_id
    markers = Frame(tokenizer, LatentConfig())
    assert markers.prompt("1+2", "words") == [*ids(tokenizer, "<bos>1+2\n"), BOT]
    assert markers.prompt("1+2", "latent", 2) == [*ids(tokenizer, "<bos>1+2\n"), BOT, 8, 8, EOT]


def test_tagged_words_are_taken_apart(tokenizer):
    frame = Frame(tokenizer, LatentConfig(words_format="tags"))
    whole = [*ids(tokenizer, write_tagged(["20 plus 19 is 39."], "39")), frame.end_id, 0, 0]
    written = frame.read(whole, "words")
    assert (written.reasoning, written.answer, written.complete, written.finished) == (
        "20 plus 19 is 39.", "39", True, True
    )  # fmt: skip
    assert written.tokens == len(whole) - 2
    cut = frame.read(whole[:30], "words")
    assert (cut.complete, cut.finished, cut.tokens) == (False, False, 30)
    assert cut.graded == cut.answer == "<reasoning>20 plus 19 is 39.</"[:30]


def test_marked_words_are_taken_apart(tokenizer):
    frame = Frame(tokenizer, LatentConfig())
    steps, answer = ids(tokenizer, "20+19\n"), ids(tokenizer, "39")
    written = frame.read([*steps, EOT, *answer, frame.end_id], "words")
    assert (written.reasoning, written.answer, written.graded, written.complete) == ("20+19", "39", "39", True)
    assert written.tagged == "<reasoning>20+19</reasoning><answer>39</answer>"
    unfinished = frame.read([*steps, EOT, *answer], "words")
    assert unfinished.tagged == "<reasoning>20+19</reasoning><answer>39"
    assert not unfinished.complete
    assert not frame.read([*steps, EOT, *answer, EOT, frame.end_id], "words").complete
    endless = frame.read(steps, "words")
    assert (endless.answer, endless.tagged) == ("", "<reasoning>20+19")


def test_a_latent_answer_is_all_there_is(tokenizer):
    frame = Frame(tokenizer, LatentConfig())
    written = frame.read([*ids(tokenizer, " 39 "), frame.end_id], "latent")
    assert (written.answer, written.graded, written.tagged, written.complete) == ("39", "39", "39", True)
    assert not frame.read([frame.end_id], "latent").complete
