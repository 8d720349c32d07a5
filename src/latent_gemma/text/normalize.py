"""One spelling for answers that mean the same."""

import re
import unicodedata
from fractions import Fraction

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_CURRENCY = "$€£¥"
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])")
_ESCAPED = re.compile(r"\\(?=[$%])")
_SIGNED_CURRENCY = re.compile(rf"^([+-])[\s{_CURRENCY}]+")
# The lengths are bounded because converting digits to an integer takes quadratic time.
_NUMBER = re.compile(r"([+-]?(?:[0-9]{1,100}(?:\.[0-9]{1,100})?|\.[0-9]{1,100}))(?:/([0-9]{1,100}))?%?")


def fold_characters(text: str) -> str:
    """Write full-width characters as their plain forms (NFKC), every dash as "-", and 3² as 3^2."""
    # Superscripts first: NFKC would make 32 of 3².
    text = _RAISED.sub(_power, text)
    return unicodedata.normalize("NFKC", text).translate(_DASHES)


def _power(raised: re.Match[str]) -> str:
    exponent = raised[0].translate(_SUPERSCRIPTS)
    return f"^{exponent}" if len(exponent) == 1 else f"^{{{exponent}}}"


def strip_thousands(text: str) -> str:
    """Take thousands separators out of numbers: "1,080" becomes "1080"; "1,2" and "1,2345" stay."""
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


def normalize_answer(text: str) -> str:
    """Bring an answer to one spelling, for comparison only.

    Args:
        text: the answer as written.

    Returns:
        The text with plain digits and dashes, no thousands separators, no currency sign around it, no closing full
        stop, folded case and single spaces.
    """
    text = fold_characters(fold_characters(text).casefold())
    text = strip_thousands(_ESCAPED.sub("", text))
    text = " ".join(text.split()).lstrip(f" {_CURRENCY}").rstrip(f" {_CURRENCY}.。")
    return _SIGNED_CURRENCY.sub(r"\1", text)


def parse_number(text: str) -> Fraction | None:
    """Read a normalised answer as an exact number; nothing is evaluated.

    Args:
        text: such as "0.50", "-3", ".5", "1/2"; a percent sign is dropped, as GSM8K's answers carry no units.

    Returns:
        Its value, or None if it is no number ("1e3", "1/0", "seven").
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    denominator = int(match[2] or 1)
    return Fraction(match[1]) / denominator if denominator else None
