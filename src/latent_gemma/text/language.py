"""Japanese or English, by the script a text is written in; which language an answer should be in."""

import re
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "ja"]
#: "same" answers in the language of the question.
AnswerLanguage = Literal["same", "en", "ja"]

_KANA = r"\u3040-\u30ff\uff66-\uff9f"
_KANJI = r"\u3005\u3006\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JAPANESE = re.compile(f"[{_KANA}{_KANJI}]")
_INTO: Mapping[Language, re.Pattern[str]] = {
    "en": re.compile(r"英語(?:に|へ)|into English"),
    "ja": re.compile(r"日本語(?:に|へ)|into Japanese"),
}
_TRANSLATION = re.compile(r"translat|訳", re.IGNORECASE)
_ANSWER_IN: Mapping[Language, str] = {"en": "Answer in English.", "ja": "日本語で答えてください。"}
#: As llm-japanese-dataset asks, whichever language is translated.
_TRANSLATE: Mapping[Language, str] = {
    "en": "次の入力を英語に翻訳してください。",
    "ja": "次の入力を日本語に翻訳してください。",
}


def detect_language(text: str) -> Language:
    """Tell Japanese from English.

    Args:
        text: any text.

    Returns:
        "ja" if it holds kana or kanji, else "en". Detectors that know every language call 東京 Chinese and
        "Solve 24 + 15" Portuguese; between these two the script decides.
    """
    return "ja" if _JAPANESE.search(text) else "en"


def translation_target(question: str) -> Language | None:
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


def translation_request(text: str, language: Language) -> str:
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
