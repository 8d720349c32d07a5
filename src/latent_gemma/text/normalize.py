"""One spelling for answers that mean the same."""

import re
import unicodedata
from fractions import Fraction

_DASHES = dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d"), "-")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"([+-]?\d{1,100}(?:\.\d{0,100})?|[+-]?\.\d{1,100})(?:/(\d{1,100}))?%?")


def normalize_answer(text: str) -> str:
    """Bring an answer to one spelling.

    Args:
        text: the answer as written.

    Returns:
        The text in NFKC (full-width digits become digits), one kind of minus, no thousands separators, no currency
        sign in front, no closing full stop, folded case, single spaces.
    """
    text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    text = _THOUSANDS.sub("", text)
    text = " ".join(text.split()).strip(" $€£¥。")
    if text.endswith("."):
        text = text[:-1].rstrip()
    text = re.sub(r"^([+-])\s*[$€£¥]\s*", r"\1", text)
    return text.casefold()


def parse_number(text: str) -> Fraction | None:
    """The exact value of a normalised answer that is a number ("0.5", "-3", "1/2"), else None; nothing is evaluated."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    numerator, denominator = match.groups()
    if denominator is not None and int(denominator) == 0:
        return None
    value = Fraction(numerator if numerator[-1] != "." else numerator[:-1])
    return value / int(denominator) if denominator is not None else value
