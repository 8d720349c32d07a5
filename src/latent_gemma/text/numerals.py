"""One number at a place of a text: digits, fractions, powers of ten, kanji. Nothing but its spelling is computed."""

import re
from fractions import Fraction
from typing import NamedTuple

#: Longer digits are no number: converting them takes quadratic time.
MAX_DIGITS = 100
#: Larger powers are not written out.
MAX_EXPONENT = 400

_DECIMAL = r"(?:[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_EXPONENT = r"(?:\^|\*\*)\s?(?:\{\s?([+-]?[0-9]{1,6})\s?\}|\(([+-]?[0-9]{1,6})\)|([+-]?[0-9]{1,6}))"
_FULL_HOUR = re.compile(r"([0-9]{1,2}):00(?![:0-9])")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){2,}")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\(([0-9]+)\)")
_MIXED = re.compile(r"([0-9]+)(?: | and )([0-9]+)/([0-9]+)(?![0-9/.])")
_FRACTION = re.compile(rf"({_DECIMAL})\s?/\s?({_DECIMAL})(?!\s?/\s?[0-9]|[0-9])")
_SCIENTIFIC = re.compile(rf"({_DECIMAL})\s?[x×*·]\s?10{_EXPONENT}")
_EXPONENTIAL = re.compile(r"([0-9]+\.[0-9]+)[eE]([+-]?[0-9]{1,6})(?!\w)|([0-9]+)[eE]([+-][0-9]{1,6})(?!\w)")
_POWER = re.compile(rf"({_DECIMAL}){_EXPONENT}")
_PLAIN = re.compile(_DECIMAL)

_KANJI_DIGITS = "〇零一二三四五六七八九"
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "億": 10**8, "兆": 10**12}
_AS_DIGITS = str.maketrans(_KANJI_DIGITS, "00123456789", ", ")
#: Characters that a number in kanji is written with.
KANJI = f"{_KANJI_DIGITS}{''.join(_TENS)}{''.join(_MYRIADS)}"
_JAPANESE = re.compile(rf"(?:{_DECIMAL}|[{KANJI}])+")
#: 4千, but not the Chinese 4千克 (kg).
_COUNTED = re.compile(rf"[{''.join(_TENS)}{''.join(_MYRIADS)}](?<!千(?=[克瓦米卡]))")
_KANJI_POINT = re.compile(rf"[{_KANJI_DIGITS}十]+[・点][{_KANJI_DIGITS}]+")
_JAPANESE_PART = re.compile(rf"({_DECIMAL}|[{_KANJI_DIGITS}]+)|([{''.join(_TENS)}])|([{''.join(_MYRIADS)}])")
_OF_PARTS = re.compile(r"\s?分の\s?")
_TENTHS = re.compile(rf"割(?:([0-9{KANJI}])分)?")

_PERCENT = re.compile(r"\s?(?:%|per ?cent(?:age)?\b|パーセント)", re.IGNORECASE)
_MULTIPLIER = re.compile(r"[ -]?(hundred|thousand|million|billion|trillion)\b|[kK](?![A-Za-z])", re.IGNORECASE)
_MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}


class Numeral(NamedTuple):
    """A number as it stands in a text.

    Args:
        values: what it may be read as, the usual reading first (35% is 35, or 0.35); none where it is too large to
            be written out, or no number in spite of its digits ("1.2.3").
        end: the position behind it.
    """

    values: tuple[Fraction, ...]
    end: int


def numeral_at(text: str, start: int) -> Numeral | None:
    """Read the number that begins at a position.

    Args:
        text: with plain characters; see `plain`.
        start: a position in it.

    Returns:
        The longest number that begins there, without a sign; None if none does.
    """
    found = _simple_at(text, start)
    if found is None:
        return None
    value, end = found
    parts = _OF_PARTS.match(text, end)
    if parts is not None:  # 3分の2 is two thirds
        above = _simple_at(text, parts.end())
        if above is not None:
            value, end = _quotient(above[0], value), above[1]
    elif value is not None and text.startswith("と", end):  # 1と3分の2
        rest = numeral_at(text, end + 1) if _OF_PARTS.search(text, end + 2, end + 8) else None
        if rest is not None and rest.values and rest.values[0] < 1:
            value, end = value + rest.values[0], rest.end
    if value is None:
        return Numeral((), end)
    return _scaled(text, value, end)


def _scaled(text: str, value: Fraction, end: int) -> Numeral:
    """The number with what multiplies it: percent, thousand, 割."""
    if percent := _PERCENT.match(text, end):
        return Numeral((value, value / 100), percent.end())
    if tenths := _TENTHS.match(text, end):
        hundredths = _japanese(tenths[1]) if tenths[1] else None
        share = value / 10 + (hundredths or Fraction(0)) / 100
        return Numeral((share, share * 100) if tenths[1] else (value, share, share * 100), tenths.end())
    if multiplier := _MULTIPLIER.match(text, end):
        return Numeral((value * _MULTIPLIERS.get((multiplier[1] or "thousand").lower(), 1),), multiplier.end())
    return Numeral((value,), end)


def _simple_at(text: str, start: int) -> tuple[Fraction | None, int] | None:
    """A number in digits or kanji and the position behind it; None for the number if it has no value."""
    if start < len(text) and text[start] in KANJI:
        return _japanese_at(text, start)
    if found := _VERSION.match(text, start):
        return None, found.end()
    if found := _FULL_HOUR.match(text, start):  # of all times only 2:00 is a number, of hours
        return _decimal(found[1]), found.end()
    if found := _REPEATING.match(text, start):
        return _repeating(found[1], found[2], found[3]), found.end()
    if (found := _MIXED.match(text, start)) and len(found[0]) <= MAX_DIGITS and int(found[2]) < int(found[3]):
        return int(found[1]) + Fraction(int(found[2]), int(found[3])), found.end()
    if (found := _SCIENTIFIC.match(text, start)) or (found := _EXPONENTIAL.match(text, start)):
        mantissa, *exponents = (group for group in found.groups() if group is not None)
        ten = _power(Fraction(10), exponents[0])
        return _product(_decimal(mantissa), ten), found.end()
    if found := _POWER.match(text, start):
        base, *exponents = (group for group in found.groups() if group is not None)
        return _power(_decimal(base), exponents[0]), found.end()
    if found := _FRACTION.match(text, start):
        return _quotient(_decimal(found[1]), _decimal(found[2])), found.end()
    if found := _PLAIN.match(text, start):
        if _COUNTED.match(text, found.end()) and (japanese := _japanese_at(text, start)) and japanese[0] is not None:
            return japanese
        return _decimal(found[0]), found.end()
    return None


def _decimal(digits: str) -> Fraction | None:
    digits = digits.replace(",", "").replace(" ", "")
    return Fraction(digits) if 0 < len(digits) <= MAX_DIGITS else None


def _quotient(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return above / below if above is not None and below else None


def _product(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    return None if one is None or other is None else one * other


def _power(base: Fraction | None, exponent: str) -> Fraction | None:
    size = int(exponent)
    if base is None or abs(size) > MAX_EXPONENT or (size < 0 and base == 0):
        return None
    digits = len(str(base.numerator)) + len(str(base.denominator))
    return base**size if digits * abs(size) <= MAX_EXPONENT * 4 else None


def _repeating(whole: str, fixed: str, period: str) -> Fraction | None:
    if len(whole + fixed + period) > MAX_DIGITS:
        return None
    tail = Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1))
    return Fraction(f"{whole or 0}.{fixed or 0}") + tail


def _japanese_at(text: str, start: int) -> tuple[Fraction | None, int] | None:
    """1万2千, 三百六十五, 二〇二四, 3.5億, 一・五."""
    if point := _KANJI_POINT.match(text, start):
        whole, part = re.split("[・点]", point[0])
        value = _japanese(whole)
        return (None if value is None else value + Fraction(f"0.{part.translate(_AS_DIGITS)}")), point.end()
    found = _JAPANESE.match(text, start)
    if found is None or len(found[0]) > MAX_DIGITS:
        return None
    return _japanese(found[0]), found.end()


def _japanese(run: str) -> Fraction | None:
    total, section, digits = Fraction(0), Fraction(0), ""
    last = 10**16
    for part in _JAPANESE_PART.finditer(run):
        if part[1]:
            if digits:
                return None
            digits = part[1].translate(_AS_DIGITS)
        elif part[2]:
            if digits and part[2] != "千" and Fraction(digits) >= 10:
                return None
            section += (Fraction(digits) if digits else 1) * _TENS[part[2]]
            digits = ""
        else:
            section += Fraction(digits) if digits else 0
            if section == 0 or _MYRIADS[part[3]] >= last:
                return None
            last = _MYRIADS[part[3]]
            total, section, digits = total + section * last, Fraction(0), ""
    return total + section + (Fraction(digits) if digits else 0)
