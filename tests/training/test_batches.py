"""Rows and batches, drawn as in the docstrings."""

import itertools
import random
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.model import LatentConfig
from latent_gemma.model.alignment import aligned_tokens
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import IGNORE, Encoded, build_row, encode_examples, pad_rows, thoughts_of
from latent_gemma.training.curriculum import ALL_STEPS, CoconutCurriculum, InternalizeCurriculum, Stage

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
    assert built.halts == [X, X, X, 0, 0, 0, 0, 0, X, X, X, X], "written steps follow: go on"
    assert built.start == 2


def test_words_none_and_everything_latent(tokenizer):
    words = row(tokenizer)
    assert words.ids == [20, 21, B, 31, 32, 33, 41, 51, 52, E, 60, 1]
    assert words.labels == [X, X, X, 31, 32, 33, 41, 51, 52, E, 60, 1]
    none = row(tokenizer, keeps_rest=False)
    assert none.ids == [20, 21, B, E, 60, 1]
    assert none.labels == [X, X, X, X, 60, 1], "eot is given by the prompt where nothing is written"
    assert none.halts == [X, X, X, 1, X, X], "nothing to think about: stop at once"
    latent = row(tokenizer, c_thought=1, latent_steps=ALL_STEPS)
    assert latent.ids == [20, 21, B, T, T, T, E, 60, 1]
    assert latent.labels == [X] * 7 + [60, 1]
    assert latent.anchors == [X, X, X, 33, 41, 52, X, X, X]
    assert latent.halts == [X, X, X, 0, 0, 0, 1, X, X]


SEPARATED = replace(ITEM, separator=[70])


def test_a_thought_for_each_token_of_a_step(tokenizer):
    whole = row(tokenizer, "tokens", item=SEPARATED, latent_steps=ALL_STEPS)
    assert whole.ids == [20, 21, B, *[T] * 9, E, 60, 1]
    assert whole.anchors == [X, X, X, 31, 32, 33, 70, 41, 70, 51, 52, 70, X, X, X]
    assert whole.halts == [X, X, X, *[0] * 9, 1, X, X]
    first = row(tokenizer, "tokens", item=SEPARATED, latent_steps=1)
    assert first.ids == [20, 21, B, *[T] * 4, 41, 70, 51, 52, 70, E, 60, 1]
    bounded = row(tokenizer, "tokens", item=SEPARATED, latent_steps=ALL_STEPS, max_thought_steps=2)
    assert bounded.anchors[3:-3] == [31, 32, 33, 70, 41, 70]


@pytest.mark.parametrize(
    ("share", "anchors"),
    [(0.9, [31, 32, 33, 41, 51, 52]), (0.5, [32, 33, 41, 52]), (0.34, [32, 33, 41, 52]), (0.2, [33, 41, 52])],
)
def test_compressed_thoughts_stand_on_the_last_token_they_stand_for(share, anchors, tokenizer):
    built = row(tokenizer, "tokens", item=SEPARATED, latent_steps=ALL_STEPS, thoughts_per_token=share)
    assert built.anchors[3:-3] == anchors
    assert [T] * len(anchors) == built.ids[3:-3]


@given(st.integers(0, 60), st.integers(1, 100))
def test_shares_divide_a_step_evenly_and_end_at_its_end(length, hundredths):
    latent = LatentConfig(c_thought="tokens", thoughts_per_token=hundredths / 100)
    ends = [0, *aligned_tokens(range(1, length + 1), [0], latent)]
    if hundredths == 100:
        assert ends == [0, *range(1, length + 1), 0]
        return
    assert len(ends) - 1 == -(-length * hundredths // 100)
    assert ends[-1] == length
    spans = [b - a for a, b in itertools.pairwise(ends)]
    assert not spans or max(spans) - min(spans) <= 1


def test_the_longest_layout_counts_what_thoughts_take(tokenizer):
    for latent, most in ((LatentConfig(c_thought="tokens"), 14), (LatentConfig(c_thought=4), 18)):
        frame, example = Frame(tokenizer, latent), Example("2+3=", ("5", "7"), "7")
        assert len(encode_examples(frame, [example], most, most_thoughts=lambda steps: steps)) == 1
        with pytest.raises(DataError, match=f"example 1 has {most} tokens"):
            encode_examples(frame, [example], most - 1, most_thoughts=lambda steps: steps)


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


def test_stage_mixing_draws_stage_i_with_a_probability_proportional_to_i_plus_one(tokenizer):
    curriculum, count = CoconutCurriculum(max_latent_stage=2, final_stages=2, stage_mixing=True), 3000
    for progress, expected in ((0.3, [1, 2, 3]), (0.99, [1, 2, 3, 4])):
        stage, frame = curriculum.stage_at(progress, 0.0), Frame(tokenizer, LatentConfig())
        rows = [build_row(ITEM, stage, frame, random.Random(seed)) for seed in range(count)]
        # thoughts, and whether anything is written: behind the last stage, two thoughts and nothing
        kinds = [built.ids.count(T) + (built.halts.count(1) > 0) for built in rows]
        found = [kinds.count(stage) / count for stage in range(len(expected))]
        assert found == pytest.approx([part / sum(expected) for part in expected], abs=0.03)
        assert sum(found) == 1.0
    assert len(thoughts_of(ITEM, stage, LatentConfig())) == 2, "mixing left aside"


@pytest.mark.parametrize("thinks", [True, False])
def test_the_next_step_alone_is_the_target_until_none_is_left(thinks, tokenizer):
    kind = CoconutCurriculum if thinks else InternalizeCurriculum
    curriculum = kind(first_stage=0, max_latent_stage=3, next_only=True)
    thoughts = 1 if thinks else 0
    for number, rest in enumerate(([31, 32, 33], [41], [51, 52])):
        built = row(tokenizer, 1, **asdict(curriculum.stage_at(number / 5, 0.0)))
        head = [20, 21, B, *[T] * number * thoughts]
        assert built.ids == head + rest, "neither later steps nor the answer"
        assert built.labels == [X] * len(head) + rest
        assert 1 not in built.halts, "there is more to think about"
    last, whole = (row(tokenizer, 1, **asdict(stage)) for stage in (
        curriculum.stage_at(0.99, 0.0), replace(curriculum, next_only=False).stage_at(0.99, 0.0)
    ))  # fmt: skip
    assert last == whole, "then the answer, as without"
    assert last.labels[-2:] == [60, 1]


def test_steps_are_removed_without_thoughts(tokenizer):
    curriculum = InternalizeCurriculum(max_latent_stage=2, final_stages=1)
    rows = [row(tokenizer, **asdict(curriculum.stage_at(progress, 0.0))) for progress in (0.0, 0.4, 0.99)]
    rest = [[41, 51, 52], [51, 52], []]
    assert [built.ids for built in rows] == [[20, 21, B, *written, E, 60, 1] for written in rest]
    assert rows[0].labels == [X, X, X, 41, 51, 52, E, 60, 1]
    assert rows[2].labels == [X, X, X, X, 60, 1]


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
