import pytest

from latent_gemma.text.language import detect_language


@pytest.mark.parametrize("text", ["東京", "ひらがな", "ｶﾀｶﾅ", "Solve it: 24 + 15 は?", "𠮷", "人々"])
def test_kana_and_kanji_are_japanese(text):
    assert detect_language(text) == "ja"


@pytest.mark.parametrize("text", ["Solve 24 + 15", "", "7+5*3=", "naïve café", "１２"])
def test_all_else_is_english(text):
    assert detect_language(text) == "en"
