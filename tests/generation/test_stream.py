"""A streamed answer is the answer, token by token, and ends when nobody reads it."""

import threading

import pytest
import torch

from latent_gemma.errors import DataError
from latent_gemma.generation import stream
from latent_gemma.generation.answers import answer
from latent_gemma.generation.stream import streamed
from latent_gemma.model.prompt import Frame


@pytest.mark.parametrize(("mode", "k"), [("latent", 3), ("words", 0), ("none", 0)])
def test_the_last_is_the_answer_and_the_others_lead_to_it(mode, k, make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    seen = list(streamed(model, frame, "1+2=", mode, k, max_new_tokens=7))
    [[trace]] = answer(model, frame, ["1+2="], mode, k, max_new_tokens=7).traces
    assert seen[-1] == trace.written
    assert [written.tokens for written in seen] == list(range(1, trace.written.tokens + 1))


def test_who_stops_reading_stops_the_model(make_model, tokenizer):
    model = make_model()
    before = threading.active_count()
    stream = streamed(model, Frame(tokenizer, model.config.latent), "1+2=", "words", max_new_tokens=2000)
    assert next(stream).tokens == 1
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


def test_what_goes_wrong_is_told_to_the_reader(make_model, tokenizer):
    model = make_model()
    with pytest.raises(DataError, match="tokens"):
        list(streamed(model, Frame(tokenizer, model.config.latent), "1" * 3000, "none"))


def test_tags_that_are_open_are_not_shown(make_model, tokenizer, monkeypatch):
    """A text with tags reads as reasoning and answer while it is written; cut off between them, it ends as `answer`."""
    model = make_model()
    model.set_latent(words_format="tags")
    frame, text = Frame(tokenizer, model.config.latent), "<reasoning>1+2=3</reasoning><answer>3"
    ids = frame.text_ids(text)

    def write(*args, streamer, **kwargs):
        for token in ids:
            streamer.put(torch.tensor([token]))
        streamer.end()

    monkeypatch.setattr(stream, "answer", write)
    seen = list(streamed(model, frame, "1+2=", "words"))
    assert not any("<" in written.answer or "<" in written.reasoning for written in seen[:-1])
    assert (seen[-2].reasoning, seen[-2].answer) == ("1+2=3", "3")
    assert seen[-1] == frame.read(ids, "words")
