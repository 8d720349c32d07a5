"""Rows that say the same in two languages, and whose sentences are in one split alone."""

import itertools
import random
import re

import pytest

from latent_gemma.data.bilingual import KINDS, Fact, bilingual_rows, draw_fact
from latent_gemma.data.splits import split_of


def rows(kind, split="train", count=300, seed=0):
    return list(itertools.islice(bilingual_rows(kind, split, seed), count))


def test_two_sentences_differ_in_both_languages_or_in_none():
    rng = random.Random(0)
    facts = [draw_fact(rng, "train") for _ in range(5000)]
    pairs = {(fact.english, fact.japanese) for fact in facts}
    assert len(pairs) == len({english for english, _ in pairs}) == len({japanese for _, japanese in pairs})
    assert len(pairs) > 4900
    assert Fact(0, 0, 0, 1, 0, 0).english == "Tom bought three apples in Tokyo yesterday."
    assert Fact(0, 0, 0, 1, 0, 0).japanese == "昨日トムは東京でりんごを三個買いました。"


def test_a_sentence_to_translate_and_its_translation_are_one_fact():
    rng = random.Random(1)
    facts = {(fact := draw_fact(rng, "train")).english: fact.japanese for _ in range(2000)}
    both = {row["input"]: row["output"] for row in rows("en-ja", count=2000)}
    both |= {row["output"]: row["input"] for row in rows("ja-en", count=2000)}
    shared = set(facts) & set(both)
    assert len(shared) >= 3
    assert all(facts[english] == both[english] for english in shared)


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_is_a_matter_of_the_sentence_whatever_the_kind_of_row(kind):
    for split in ("train", "test"):
        for row in rows(kind, split):
            if kind != "quiz-ja":
                english = row["output"] if kind == "ja-en" else row["input"]
                told = re.findall(r"[A-Z][^.]*\.", english)
                assert told
                assert {split_of(sentence) for sentence in told} == {split}
    assert not {row["input"] for row in rows(kind)} & {row["input"] for row in rows(kind, "test")}


@pytest.mark.parametrize("kind", ["quiz-en", "quiz-ja"])
def test_a_quiz_is_answered_by_its_text(kind):
    for row in rows(kind):
        assert row["output"] in row["input"]
        assert row["output"] not in row["instruction"]
