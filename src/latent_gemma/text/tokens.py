"""A text cut into numbers, words, operators and brackets, as `quantities` reads it. The time is linear."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

from latent_gemma.text.latex import plain_latex
from latent_gemma.text.normalize import fold_characters, strip_emphasis
from latent_gemma.text.numerals import KANJI, numeral_at

Kind = Literal[
    "number", "word", "cjk", "symbol", "subscript", "operator", "equals", "relation", "comma", "open", "close", "other"
]

#: Kanji that count things. A numeral in front of another kanji is a part of a word: 一般, 三重県.
COUNTERS = (
    "個人円本枚匹冊台回年月日時分秒週歳才倍度点位羽頭杯箱袋組通問題束着足軒階脚名件社店校種曲話巻章条項票色段球粒滴割"
)
#: Characters of Japanese words.
CJK = r"\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"

_BEFORE_NUMERAL = "約計全各第合"
_CJK = re.compile(f"[{CJK}]")
_SKIPPED = re.compile(r"[\s$€£¥₹|]+")
#: How GSM8K notes what a calculator has found, and tags.
_CALCULATED = re.compile(r"<<[^<>\n]{0,200}>>|</?[a-zA-Z]{1,12}\s?/?>")
_STARTS_NUMBER = re.compile(r"[0-9]|\.[0-9]")
_SIGN = re.compile(r"[-+][$€£¥]?(?=\.?[0-9])")
_SIGN_BEHIND_EQUALS = re.compile(r"[-+] ?[$€£¥]? ?(?=\.?[0-9])")
_NEGATIVE = re.compile(rf"(?:(?:minus|negative) {{1,2}}|マイナス ?|負の ?)(?=[$€£¥]?\.?[0-9{KANJI}])", re.IGNORECASE)
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("open", re.compile(r"[(\[{]")),
    ("close", re.compile(r"[)\]}]")),
    ("symbol", re.compile(r"\\[A-Za-z]+|[√π∞∑∫…]")),
    # "cm^2", "m2", "H2O" and "COVID-19" are words; the digits in them count nothing.
    ("word", re.compile(rf"[^\W\d_{CJK}]+(?:'[a-z]+)?(?:[-^]?\{{?-?[0-9]+(?:\.[0-9]+)?\}}?)*")),
    ("equals", re.compile(r"[=-]>|[=≈≒→⇒]")),
    ("relation", re.compile("[<>≤≥≠∈]")),
    ("operator", re.compile(r"\*\*|[-+*/×÷^·±:~〜∶]")),
    ("subscript", re.compile(r"_\{?\w+\}?")),
    ("comma", re.compile("[,;、]")),
)


class Token(NamedTuple):
    """A piece of a text.

    Args:
        kind: what it is.
        text: as it is written.
        start: where it begins.
        end: the position behind it.
        depth: the number of brackets it stands in.
        values: of a number, what it may be read as; none if it has no value.
    """

    kind: Kind
    text: str
    start: int
    end: int
    depth: int
    values: tuple[Fraction, ...] = ()


def plain(text: str) -> str:
    """A text as numbers are looked for in it: plain characters, LaTeX written out, no emphasis, no `<<6*7=42>>`."""
    return plain_latex(strip_emphasis(_CALCULATED.sub("", fold_characters(text))))


def tokens(text: str) -> Iterator[Token]:
    """Cut a text into tokens.

    Args:
        text: a plain one; see `plain`. Numerals in kanji count only where no digit is in it.

    Yields:
        Its tokens in order; white space and currency signs are passed over.
    """
    with_kanji = re.search("[0-9]", text) is None
    position, depth = 0, 0
    last: Kind = "other"
    while position < len(text):
        if skipped := _SKIPPED.match(text, position):
            position = skipped.end()
            continue
        kind, end, values = _token_at(text, position, last, with_kanji)
        depth = max(0, depth + (kind == "open") - (kind == "close"))
        yield Token(kind, text[position:end], position, end, depth, values)
        position, last = end, kind


def _token_at(text: str, start: int, last: Kind, with_kanji: bool) -> tuple[Kind, int, tuple[Fraction, ...]]:
    if _STARTS_NUMBER.match(text, start) and (number := numeral_at(text, start)):
        return "number", number.end, () if _is_pair(text, start, number.end) else number.values
    number = numeral_at(text, start) if with_kanji and text[start] in KANJI else None
    if number is not None and number.values and not _is_in_word(text, start, number.end):
        return "number", number.end, number.values
    # A sign, but not the minus of "10-4".
    if last not in ("number", "close", "subscript") and (sign := _sign_at(text, start, last)):
        factor = 1 if text[start] == "+" else -1
        if number := numeral_at(text, sign.end()):
            return "number", number.end, tuple(factor * value for value in number.values)
    if last == "number" and text[start] in "xX" and text[start + 1 : start + 2].isdecimal():
        return "operator", start + 1, ()
    if _CJK.match(text, start):
        end = start + 1
        while end < len(text) and _CJK.match(text, end) and not _starts_numeral(text, end, with_kanji):
            end += 1
        return "cjk", end, ()
    for kind, pattern in _PATTERNS:
        if found := pattern.match(text, start):
            return kind, found.end(), ()
    return "other", start + 1, ()


def _starts_numeral(text: str, position: int, with_kanji: bool) -> bool:
    return (with_kanji and text[position] in KANJI) or text.startswith(("マイナス", "負の"), position)


def _sign_at(text: str, position: int, last: Kind) -> re.Match[str] | None:
    """A sign, in front of the digits it belongs to; behind a letter it is an operator."""
    if text[position] not in "+-":
        return _NEGATIVE.match(text, position)
    before = text[position - 1 : position] if position else ""
    if before.isascii() and before.isalnum():
        return None
    return (_SIGN_BEHIND_EQUALS if last == "equals" else _SIGN).match(text, position)


def _is_pair(text: str, start: int, end: int) -> bool:
    """Whether commas between digits divide: (3,100) is a pair."""
    opened, closed = text[max(0, start - 1)] in "([", text[end : end + 1] in (",", ")", "]")
    return opened and closed and "," in text[start:end]


def _is_in_word(text: str, start: int, end: int) -> bool:
    """Whether kanji numerals are a part of a word (統一, 三重県, 十分) and count nothing, unlike those of 二十四個."""
    before, behind = text[start - 1 : start] if start else "", text[end : end + 1]
    alone = end - start == 1
    follows = "\u3400" <= before <= "\u9fff" and before not in _BEFORE_NUMERAL and alone
    goes_on = "\u3400" <= behind <= "\u9fff" and behind not in COUNTERS
    return follows or goes_on or (alone and text.startswith("十分", start))
