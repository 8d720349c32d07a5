import time

import pytest
import sacrebleu

from latent_gemma.evaluation.metrics.bleu import bleu

ENGLISH = ["The cat sat on the red mat.", "It rains in the north today."]
JAPANESE = ["猫は赤い敷物の上に座った。", "今日は北の方で雨が降っている。"]


def test_english_equals_sacrebleu():
    predictions = ["The cat sat on a red mat.", "It rains in the south today."]
    result = bleu(predictions, ENGLISH, "en")
    assert result.score_0_100 == pytest.approx(sacrebleu.corpus_bleu(predictions, [ENGLISH]).score)
    assert result.score_0_1 == pytest.approx(result.score_0_100 / 100)
    assert 0 < result.score_0_1 < 1
    assert "tok:13a" in result.signature


def test_japanese_is_cut_into_words():
    predictions = ["猫は赤い敷物の上で座った。", "今日は南の方で雨が降っている。"]
    result = bleu(predictions, JAPANESE, "ja")
    assert "tok:ja-mecab" in result.signature
    assert result.score_0_100 == pytest.approx(
        sacrebleu.corpus_bleu(predictions, [JAPANESE], tokenize="ja-mecab").score
    )
    assert result.score_0_100 > bleu(predictions, JAPANESE, "en").score_0_100 + 10


@pytest.mark.parametrize(("texts", "language"), [(ENGLISH, "en"), (JAPANESE, "ja")])
def test_the_reference_itself_scores_exactly_100_and_nothing_0(texts, language):
    assert bleu(texts, texts, language).score_0_100 == pytest.approx(100)
    assert bleu(texts, texts, language).score_0_1 <= 1
    assert bleu(["", ""], texts, language).score_0_100 == 0


def test_items_may_have_different_numbers_of_references():
    predictions = [ENGLISH[0], "Nothing like the reference at all."]
    several = [["Quite another sentence stands here.", ENGLISH[0]], ENGLISH[1]]
    assert (
        bleu(predictions, several, "en").score_0_100 > bleu(predictions, [several[0][0], ENGLISH[1]], "en").score_0_100
    )


@pytest.mark.parametrize("text", ["あ漢" * 2**19, "x" * 2**20, "\ud800 a", "\x00a", "\n"])
@pytest.mark.parametrize("language", ["en", "ja"])
def test_hostile_text_costs_its_own_score_only(text, language):
    started = time.perf_counter()
    assert 0 <= bleu([text, ENGLISH[0]], [[JAPANESE[0], text], ENGLISH[0]], language).score_0_100 <= 100
    assert time.perf_counter() - started < 20
