import pytest

from latent_gemma.text.language import (
    ask_in,
    detect_language,
    translation_request,
    translation_target,
    wanted_language,
)


@pytest.mark.parametrize("text", ["東京", "ひらがな", "ｶﾀｶﾅ", "Solve it: 24 + 15 は?", "𠮷", "人々"])
def test_kana_and_kanji_are_japanese(text):
    assert detect_language(text) == "ja"


@pytest.mark.parametrize(
    "text",
    [
        "东京",
        "小明有3个苹果，吃了1个，还剩几个？",
        "小明有三個蘋果，吃了一個，還剩幾個？",
        "這是什麼？",
        "你好",
        "我的書是新的",
        "Answer: 三个",
    ],
)
def test_chinese_is_told_from_japanese(text):
    assert detect_language(text) == "zh"


@pytest.mark.parametrize(
    "text", ["排他的経済水域", "東京都、大阪府、京都府", "日本国憲法第九条", "什器", "国是", "有無？", "终わり"]
)
def test_names_and_words_in_kanji_are_japanese(text):
    assert detect_language(text) == "ja"


@pytest.mark.parametrize("text", ["Solve 24 + 15", "", "7+5*3=", "naïve café", "１２"])
def test_all_else_is_english(text):
    assert detect_language(text) == "en"


@pytest.mark.parametrize(
    ("question", "target"),
    [
        ("次の入力を日本語に翻訳してください。\nBoth like gambling.", "ja"),
        ("以下の文を英語にしてください。\n猫", "en"),
        ("Translate into Japanese: a cat", "ja"),
        ("「猫」を英語に訳すと？", "en"),
        ("英語に由来する言葉は何でしょう？", None),
        ("How many languages was it turned into English from?", None),
        ("", None),
    ],
)
def test_the_language_a_translation_is_wanted_in(question, target):
    assert translation_target(question) == target


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("text", ["a cat", "猫", "一行目\nsecond line"])
def test_a_translation_request_is_understood_as_one(text, language):
    request = translation_request(text, language)
    assert request.endswith(f"\n{text}")
    assert wanted_language(request, "ja") == language
    assert ask_in(request, language) == request


@pytest.mark.parametrize(
    ("question", "asked", "wanted", "prompt"),
    [
        ("2+3は？", "same", "ja", "2+3は？"),
        ("2+3は？", "ja", "ja", "2+3は？"),
        ("2+3は？", "en", "en", "2+3は？\nAnswer in English."),
        ("What is 2+3?", "ja", "ja", "What is 2+3?\n日本語で答えてください。"),
        ("What is 2+3?", "en", "en", "What is 2+3?"),
    ],
)
def test_a_question_is_asked_in_the_language_wanted(question, asked, wanted, prompt):
    assert wanted_language(question, detect_language(question), asked) == wanted
    assert ask_in(question, asked) == prompt
