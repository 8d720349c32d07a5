"""Rows and batches, drawn as in the docstrings."""

import random

import pytest
import torch

from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, Encoded, build_row, encode_examples, pad_rows
from latent_gemma.training.curriculum import ALL_STEPS, Stage

B, T, E, X = 7, 8, 9, IGNORE
ITEM = Encoded(question=[20, 21], steps=[[31, 32, 33], [41], [51, 52]], separator=[], answer=[60, 1])


def row(tokenizer, c_thought=2, seed=0, item=ITEM, **stage):
    frame = Frame(tokenizer, LatentConfig(c_thought=c_thought))
    return build_row(item, Stage(**stage), frame, random.Random(seed))


def test_two_of_three_steps_latent(tokenizer):
    built = row(tokenizer, latent_steps=2)
    assert built.ids == [20, 21, B, T, T, T, T, 51, 52, E, 60, 1]
    assert built.labels == [X, X, X, X, X, X, X, 51, 52, E, 60, 1]
    assert built.anchors == [X, X, X, 32, 33, X, 41, X, X, X, X, X]
    assert built.start == 2


def test_words_none_and_everything_latent(tokenizer):
    words = row(tokenizer)
    assert words.ids == [20, 21, B, 31, 32, 33, 41, 51, 52, E, 60, 1]
    assert words.labels == [X, X, X, 31, 32, 33, 41, 51, 52, E, 60, 1]
    none = row(tokenizer, keeps_rest=False)
    assert none.ids == [20, 21, B, E, 60, 1]
    assert none.labels == [X, X, X, X, 60, 1], "eot is given by the prompt where nothing is written"
    latent = row(tokenizer, c_thought=1, latent_steps=ALL_STEPS)
    assert latent.ids == [20, 21, B, T, T, T, E, 60, 1]
    assert latent.labels == [X] * 7 + [60, 1]
    assert latent.anchors == [X, X, X, 33, 41, 52, X, X, X]


def test_thoughts_are_bounded_and_padded(tokenizer):
    bounded = row(tokenizer, c_thought=1, latent_steps=ALL_STEPS, max_thought_steps=2)
    assert bounded.ids.count(T) == 2
    assert 51 not in bounded.ids, "steps past the bound are dropped, not written"
    short = Encoded([20], [[31]], [70], [60, 1])
    padded = row(tokenizer, item=short, latent_steps=ALL_STEPS, max_thought_steps=3, pad_thoughts=True)
    assert padded.ids == [20, B, *[T] * 6, E, 60, 1]
    assert padded.anchors == [X, X, X, 31, *[X] * 7]


def test_mixing_draws_every_stage_and_none_without_probability(tokenizer):
    drawn = {row(tokenizer, c_thought=1, latent_steps=3, mix_prob=1.0, seed=s).ids.count(T) for s in range(50)}
    assert drawn == {0, 1, 2, 3}
    assert {row(tokenizer, c_thought=1, latent_steps=3, seed=s).ids.count(T) for s in range(50)} == {3}


def test_rows_are_aligned_by_their_thoughts(tokenizer):
    long, short = (
        row(tokenizer, c_thought=1, latent_steps=2),
        row(tokenizer, c_thought=1, item=Encoded([25], [[31], [41]], [], [61, 62, 1]), latent_steps=1),
    )
    batch = pad_rows([long, short], pad_id=0)
    assert batch["input_ids"].tolist() == [
        [20, 21, B, T, T, 51, 52, E, 60, 1],
        [0, 25, B, T, 41, E, 61, 62, 1, 0],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 10, [0, *[1] * 8, 0]]
    assert batch["labels"][1].tolist() == [X, X, X, X, 41, E, 61, 62, 1, X]
    assert batch["anchors"][0].tolist() == [X, X, X, 33, 41, X, X, X, X, X]


def test_examples_are_encoded_piece_by_piece(tokenizer):
    frame = Frame(tokenizer, LatentConfig(step_separator=";"))
    item = encode_examples(frame, [Example("2+3=", ("5", "7"), "7")])[0]
    assert tokenizer.decode(item.question) == "<bos>2+3=\n"
    assert [tokenizer.decode(step) for step in item.steps] == ["5", "7"]
    assert tokenizer.decode(item.separator) == ";"
    assert tokenizer.decode(build_row(item, Stage(latent_steps=1), frame, random.Random(0)).ids[8:10]) == "7;"
    assert item.answer == [*tokenizer("7", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with pytest.raises(DataError, match="example 1 has 14 tokens"):
        encode_examples(frame, [Example("2+3=", ("5", "7"), "7")], max_length=13)


def test_an_empty_batch_dimension_never_appears(tokenizer):
    batch = pad_rows([row(tokenizer)], 0)
    assert all(value.shape == (1, 12) and value.dtype == torch.int64 for value in batch.values())


def test_tagged_words_are_read_by_the_loss_from_the_first_tag_to_the_end(tokenizer):
    frame = Frame(tokenizer, LatentConfig(words_format="tags", step_separator=" "))
    examples = [Example("1+2+3=", ("1+2=3", "3+3=6"), "6"), Example("1+1=", (), "2")]
    rows = [build_row(item, Stage(), frame, random.Random(0)) for item in encode_examples(frame, examples)]
    texts = ["<reasoning>1+2=3 3+3=6</reasoning><answer>6</answer><eos>", "<answer>2</answer><eos>"]
    for row, text in zip(rows, texts, strict=True):
        read = [label for label in row.labels if label != IGNORE]
        assert tokenizer.decode(read) == text
        assert tokenizer.decode(row.ids[: row.start]) == "<bos>" + ("1+2+3=\n" if "reasoning" in text else "1+1=\n")
        assert row.labels == [IGNORE] * row.start + row.ids[row.start :]
        assert set(row.anchors) == {IGNORE}
        assert not {frame.latent.bot_id, frame.latent.thought_id, frame.latent.eot_id} & set(row.ids)
    batch = pad_rows(rows, 0)
    assert (batch["labels"] != IGNORE).sum() == sum(map(len, (row.ids[row.start :] for row in rows)))
