"""Japanese, Chinese or English, by the script a text is written in; which language an answer should be in."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

#: What is told apart; all that is neither Japanese nor Chinese counts as English.
Language = Literal["en", "ja", "zh"]
#: What answers and translations can be asked for in.
Asked = Literal["en", "ja"]
#: "same" answers in the language of the question.
AnswerLanguage = Literal["same", "en", "ja"]

_KANA = r"\u3040-\u30ff\uff66-\uff9f"
_KANJI = r"\u3005\u3006\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ANY_KANA = re.compile(f"[{_KANA}]")
_ANY_KANJI = re.compile(f"[{_KANJI}]")
#: Of the characters that both languages have, what only Chinese makes sentences of.
_CHINESE_WORDS = re.compile("[们們你您妳她它这這哪吗嗎呢吧啊个麼很]")
_CHINESE_GRAMMAR = frozenset("的是了我也就把被")
_CHINESE_IN_SENTENCES = _CHINESE_GRAMMAR | frozenset("有比多")
_INTO: Mapping[Asked, re.Pattern[str]] = {
    "en": re.compile(r"英語(?:に|へ)|into English"),
    "ja": re.compile(r"日本語(?:に|へ)|into Japanese"),
}
_TRANSLATION = re.compile(r"translat|訳", re.IGNORECASE)
_ANSWER_IN: Mapping[Asked, str] = {"en": "Answer in English.", "ja": "日本語で答えてください。"}
#: As llm-japanese-dataset asks, whichever language is translated.
_TRANSLATE: Mapping[Asked, str] = {
    "en": "次の入力を英語に翻訳してください。",
    "ja": "次の入力を日本語に翻訳してください。",
}


@lru_cache(maxsize=8192)
def _is_simplified(character: str) -> bool:
    """Whether a character is Chinese alone: in GB 2312, China's standard, but not in JIS X 0213, Japan's."""
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    try:
        character.encode("euc_jis_2004")
    except UnicodeEncodeError:
        return True
    return False


def _is_chinese(text: str) -> bool:
    """Whether a text without kana is Chinese rather than a Japanese name or word in kanji."""
    if _CHINESE_WORDS.search(text) or any(map(_is_simplified, text)):
        return True
    characters = set(text)
    # 排他的 and 国是 are Japanese; two such characters, or one in what is clearly a sentence, are not.
    is_sentence = len(_ANY_KANJI.findall(text)) > 5 and bool(characters & {"，", "？"})
    return len(characters & _CHINESE_GRAMMAR) > 1 or (is_sentence and bool(characters & _CHINESE_IN_SENTENCES))


def detect_language(text: str) -> Language:
    """Tell Japanese, Chinese and English apart.

    Args:
        text: any text.

    Returns:
        "ja" if it holds kana, or kanji that are not Chinese; "zh" for kanji without kana if one is a character of
        simplified Chinese alone (东, 说), if there is a word such as 这, 吗 or 你, or grammar such as 的 beside 是;
        else "en". 東京 and 排他的経済水域 stay Japanese, as does Chinese in traditional characters without such words.
        Detectors that know every language call 東京 Chinese and "Solve 24 + 15" Portuguese.
    """
    if _ANY_KANA.search(text):
        return "ja"
    if not _ANY_KANJI.search(text):
        return "en"
    return "zh" if _is_chinese(text) else "ja"


def translation_target(question: str) -> Asked | None:
    """The language that a question asks to translate into.

    Args:
        question: the request on its first line, and behind it the text.

    Returns:
        The language; None if it asks for no translation.
    """
    request, text, _ = question.partition("\n")
    # "What is .. turned into English called?" is a question; a text to translate follows, or translation is named.
    if not (text or _TRANSLATION.search(request)):
        return None
    return next((language for language, into in _INTO.items() if into.search(request)), None)


def translation_request(text: str, language: Asked) -> str:
    """Ask for a translation.

    Args:
        text: what to translate.
        language: into what.

    Returns:
        The question, in the words of llm-japanese-dataset.
    """
    return f"{_TRANSLATE[language]}\n{text}"


def wanted_language(question: str, own: str, asked: AnswerLanguage = "same") -> str:
    """The language an answer should be in.

    Args:
        question: the question.
        own: its language.
        asked: what the user asks for.

    Returns:
        What the user asks for, else what the question wants a translation into, else its own.
    """
    return asked if asked != "same" else translation_target(question) or own


def ask_in(question: str, asked: AnswerLanguage) -> str:
    """A question as it is put to the model.

    Args:
        question: the question.
        asked: the language wanted.

    Returns:
        The question; with an instruction behind it, in the wanted language, if by itself it wants another.
    """
    if asked == "same" or wanted_language(question, detect_language(question)) == asked:
        return question
    return f"{question}\n{_ANSWER_IN[asked]}"
