"""One spelling for answers that mean the same."""

import re
import unicodedata
from fractions import Fraction

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_VULGAR = re.compile("([0-9０-９]?)([¼-¾⅐-⅞↉])")
_THIN_SPACE = re.compile(r"(?<=[0-9])[\u00a0\u2007-\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_CURRENCY = "$€£¥"
# In "(3,100)" and "[1,080]" the comma divides: only a currency sign makes a number of them.
_THOUSANDS = re.compile(r"(?<![0-9.,(\[])(?<!\\\{)[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])")
_ESCAPED = re.compile(r"\\(?=[$%])")
_SIGNED_CURRENCY = re.compile(rf"^([+-])[\s{_CURRENCY}]+")
_CJK = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
_BETWEEN_JAPANESE = re.compile(rf"(?<=[{_CJK}])[ ・=]+(?=[{_CJK}])")
_QUOTES = re.compile("[「」『』《》〈〉“”]")
_CURLY = str.maketrans("‘’", "''")
# Emphasis around words; between digits or letters two stars are a power.
_EMPHASIS = re.compile(
    r"(?<![A-Za-z0-9)*])\*{2,3}(?=[^\s*])([^*\n]{1,1000})\*{2,3}(?![A-Za-z0-9(*])|(?<!\w)__(?=\S)([^_\n]{1,1000})__(?!\w)|`+"
)
# The lengths are bounded because converting digits to an integer takes quadratic time.
_NUMBER = re.compile(r"([+-]?(?:[0-9]{1,100}(?:\.[0-9]{1,100})?|\.[0-9]{1,100}))(?:/([0-9]{1,100}))?%?")


def fold_characters(text: str) -> str:
    """Write full-width characters as their plain forms (NFKC), every dash as "-", 3² as 3^2 and 3½ as 3 1/2."""
    if text.isascii():
        return text
    # Superscripts and fractions first: NFKC would make 32 of 3² and 31⁄2 of 3½.
    text = _THIN_SPACE.sub("", _VULGAR.sub(_fraction, _RAISED.sub(_power, text)))
    return unicodedata.normalize("NFKC", text).translate(_DASHES)


def _power(raised: re.Match[str]) -> str:
    exponent = raised[0].translate(_SUPERSCRIPTS)
    return f"^{exponent}" if len(exponent) == 1 else f"^{{{exponent}}}"


def _fraction(found: re.Match[str]) -> str:
    whole, fraction = found[1], unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return f"{whole} {fraction}" if whole else fraction


def strip_thousands(text: str) -> str:
    """Take thousands separators out of numbers: "1,080" becomes "1080"; "1,2", "1,2345" and "(3,100)" stay."""
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


def strip_emphasis(text: str) -> str:
    """Take Markdown's emphasis and code marks away: "**58**" becomes "58"; "2**10" stays."""
    return _EMPHASIS.sub(lambda found: found[1] or found[2] or "", text)


def normalize_answer(text: str) -> str:
    """Bring an answer to one spelling, for comparison only.

    Args:
        text: the answer as written.

    Returns:
        The text with plain digits and dashes, no thousands separators, no currency sign around it, no closing full
        stop, no emphasis or quotation marks, folded case and single spaces.
    """
    text = fold_characters(fold_characters(text).casefold())
    text = _QUOTES.sub("", strip_emphasis(text.translate(_CURLY)))
    text = strip_thousands(_ESCAPED.sub("", text))
    return _SIGNED_CURRENCY.sub(r"\1", _stripped(" ".join(text.split())))


def undivided(text: str) -> str:
    """Take away what divides Japanese names: ジョン・レノン, ジョン＝レノン and ジョン レノン become one."""
    return _BETWEEN_JAPANESE.sub("", text)


def _stripped(text: str) -> str:
    """Text without currency signs, full stops and quotation marks around it."""
    while True:
        text = text.lstrip(f" {_CURRENCY}").rstrip(f" {_CURRENCY}.。")
        if len(text) < 3 or text[0] != text[-1] or text[0] not in "\"'*":
            return text
        text = text[1:-1]


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
