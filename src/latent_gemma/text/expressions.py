"""Answers as mathematics: what can be told without a parser, and what a LaTeX parser is shown of the rest."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from latent_gemma.text.answers import answers_match, float_tolerance
from latent_gemma.text.latex import plain_latex
from latent_gemma.text.marks import has_prose
from latent_gemma.text.normalize import fold_characters, normalize_answer, strip_thousands
from latent_gemma.text.quantities import Number, whole_number
from latent_gemma.text.tokens import plain

#: Deeper brackets are refused: the time of the LaTeX grammar grows steeply with every level.
MAX_NESTING = 8
#: Larger exponents are refused: such numbers fill the memory.
MAX_EXPONENT = 100_000

_DELIMITERS = re.compile(r"\\?\$|(?<!\\)\\(?:[()\[\]]|\s*$)")
_EXPONENTS = re.compile(r"(?:\^[{( ]*[+-]?[{( ]*[0-9]+(?:\.[0-9]*)? ?)+")
_WHOLE_PART = re.compile(r"(?<![0-9.])[0-9]+")
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(r"(?i:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|exp|sqrt|abs|min|max|gcd|lcm)")

_IN_LATEX = str.maketrans({
    "∞": r"\infty ", "π": r"\pi ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "×": r"\times ", "÷": r"\div ",
    "·": r"\cdot ", "⋅": r"\cdot ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "°": r"^{\circ}",
})  # fmt: skip
_ROOT = re.compile(r"(?:√|(?<![\\A-Za-z])sqrt)\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9.]+|[A-Za-z](?![A-Za-z])))")
_NAME = re.compile(r"(?<![\\A-Za-z])(?:(pi)|inf(?:inity|ty)?)(?![A-Za-z])")
_MIXED = re.compile(r"(?<![0-9.^{/])([0-9]{1,20})\s+([0-9]{1,20})/([0-9]{1,20})(?![0-9/.])")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*$")
_ANGLES = re.compile("sin|cos|tan|cot|sec|csc")

_TEXT_UNIT = re.compile(
    r"\\(?:text(?:rm|bf|it|normal)?|math(?:rm|bf|it)|mbox|hbox)\s*\{([^{}0-9]*)\}(?:\^\{?[0-9]\}?)?[\s.]*$"
)
#: In roman type these are numbers and signs, not units; and a time of day is another in the afternoon.
_NO_UNITS = frozenset(["e", "i", "d", "t", "or", "and", "am", "pm", "a.m.", "p.m."])
#: Words behind a number; shorter ones are products of unknowns ("4t", "6c", "3ab"), unless they are these units.
_WORD_UNIT = re.compile(
    r"(?<=[0-9)}])\s*((?!percent)(?:[A-Za-z]{3,}|[cmk]m|k?g|m[glL]|ft|in|oz|lbs?|hr|yd|mi)\b(?:\s+[A-Za-z]{2,}){0,2}"
    r"(?:\s?/\s?[a-z]+)?)(?:\^\{?[23]\}?)?[\s.]*$"
)
_DECIMALS = re.compile(r"\.([0-9]{6,100})(?![0-9])")
_SPACES_AT_END = re.compile(r"(?:\\[,;:! ]|~|\s)+$")
_IN_BASE = re.compile(r"-?[0-9A-Fa-f]+_[0-9]+")
_POINTS = re.compile(r"[A-Z]{2,}")
_LETTER = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
_SUBSCRIPT = re.compile(r"_\{(\w+)\}")
_AROUND_SIGNS = re.compile(r" ?([,;:()\[\]{}=<>≤≥+*/^|-]) ?")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)|[{}]")
_IDENTIFIER = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?'?(?:\([^()=]*\))?")
_UNKNOWN = re.compile("[A-DF-HJ-Za-df-hj-z]")
_PRODUCT = re.compile("[0-9][A-DF-HJ-Za-df-hj-z]")
_BINDING = re.compile(r"\\(?:lim|sum|prod|int)(?![A-Za-z])")
_SEVERAL = re.compile(r"[,;]|\b(?:and|or)\b")


class Expression(NamedTuple):
    """An answer as mathematics.

    Args:
        spelling: for comparison as text.
        number: the number it is, without its unit; None if it is none.
        unit: the words behind it, in folded case.
        latex: what a parser is shown, see `to_expression`.
    """

    spelling: str
    number: Number | None
    unit: str
    latex: str | None


class Settled(NamedTuple):
    """What a comparison came to.

    Args:
        equal: whether the answers are equal, as far as can be told.
        given: what a parser may still compare: the prediction in LaTeX; None if there is nothing to it.
        wanted: with this, the accepted answer.
    """

    equal: bool
    given: str | None = None
    wanted: str | None = None


def settle(predicted: str, accepted: str) -> Settled:
    """Compare two answers as far as that needs no parser.

    Args:
        predicted: the prediction; of an equation chain (3 x 9 = 27, y = 2x + 1) its last side, unless an equation is
            accepted.
        accepted: an accepted answer.

    Returns:
        Whether they are equal: as text, as words, or as numbers, exactly and with units that can be the same; where
        only a parser can tell, what it is to compare. Letters are not dropped as units, so "4t" is not 4.
    """
    given, wanted = read_expression(_last_side(predicted, accepted)), read_expression(accepted)
    if given.spelling and given.spelling == wanted.spelling:
        return Settled(True)
    if given.number is not None and wanted.number is not None:
        tolerance = max(float_tolerance(accepted, wanted.number), _last_place(predicted))
        pairs = [(one, other) for one in given.number.values for other in wanted.number.values]
        near = any(one == other or abs(one - other) < tolerance for one, other in pairs)
        return Settled(near and _can_be_same(given.unit, wanted.unit))
    if has_prose(plain_latex(accepted)) and answers_match(predicted, [accepted]):
        return Settled(True)
    if any(kind.fullmatch(one.spelling) for kind in (_IN_BASE, _POINTS) for one in (given, wanted)):
        return Settled(False)
    if _LETTER.fullmatch(given.spelling) and _LETTER.fullmatch(wanted.spelling):
        return Settled(False)  # the parser does not know large letters from small ones
    return Settled(False, given.latex, wanted.latex)


@lru_cache(maxsize=1024)
def read_expression(text: str) -> Expression:
    """Take an answer apart.

    Args:
        text: the answer, with or without `$`, in LaTeX or as people type it.

    Returns:
        Its spelling, number, unit and LaTeX.
    """
    body, unit = _without_unit(_DELIMITERS.sub(" ", text))
    if not unit:
        body, unit = _without_unit(plain(body))
    # Here "5!" is a factorial and "4t" a product.
    number = None if "!" in body else whole_number(body)
    if number is not None and number.rest.isascii() and number.rest:
        number = None
    return Expression(_spelled(text), number, unit, to_expression(text))


def to_expression(text: str) -> str | None:
    """Bring an answer to the form the LaTeX parser is given.

    Args:
        text: the answer, with or without `$`, in LaTeX or as people type it ("2**10", "x²", "2√3", "１，０８０ cm").

    Returns:
        The answer without its unit between two `$`, or None if it is not for the parser: empty, a word, nested too
        deep, or a power too large to write down such as `9**9**9`.
    """
    text = strip_thousands(fold_characters(text)).replace("**", "^")
    text = _without_unit(_DELIMITERS.sub(" ", text))[0]
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found[1] or found[2] or found[3]}}}", text).replace("√", r"\sqrt ")
    text = _NAME.sub(lambda found: r"\pi " if found[1] else r"\infty ", _MIXED.sub(_improper, text))
    text = text.translate(_IN_LATEX)
    if not _ANGLES.search(text):
        text = _DEGREES.sub("", text)
    text = " ".join(text.split())
    if not text or _has_words(text) or _depth(text) > MAX_NESTING or any(map(_is_huge, _EXPONENTS.findall(text))):
        return None
    return f"${text}$"


def _improper(mixed: re.Match[str]) -> str:
    whole, above, below = (int(part) for part in mixed.groups())
    return rf"\frac{{{whole * below + above}}}{{{below}}}" if above < below else mixed[0]


def _without_unit(text: str) -> tuple[str, str]:
    """An answer and the unit behind it, "" for none."""
    for pattern in (_TEXT_UNIT, _WORD_UNIT):
        found = pattern.search(text)
        body = _SPACES_AT_END.sub("", text[: found.start()]) if found else ""
        if found and body and found[1].strip().casefold() not in _NO_UNITS and not _FUNCTION.fullmatch(found[1]):
            return body, found[1].strip(" .").casefold()
    return text, ""


def _last_place(number: str) -> Fraction:
    """One unit of the last decimal of a number that was worked out to six decimals or more, else 0."""
    decimals = _DECIMALS.search(number)
    return Fraction(1, 10 ** len(decimals[1])) if decimals is not None else Fraction(0)


def _can_be_same(unit: str, other: str) -> bool:
    """Whether two units are one, written out or not: "in" and "inches"; a missing one can be any."""
    if not unit or not other or "unit" in unit + other:
        return True
    short, long = sorted((unit, other), key=len)
    rest = iter(long)
    return short[0] == long[0] and all(letter in rest for letter in short)


def _spelled(text: str) -> str:
    text = strip_thousands(plain(_DELIMITERS.sub(" ", text)))
    text = _SUBSCRIPT.sub(r"_\1", _AROUND_SIGNS.sub(r"\1", " ".join(text.split()))).strip(" .。")
    return normalize_answer(text) if has_prose(text) else text


def _last_side(predicted: str, accepted: str) -> str:
    """The last side of an equation chain where no equation is accepted; "" if it holds an unknown from the start."""
    if _SEVERAL.search(predicted) or len(_sides(predicted)) == 1 or len(_sides(accepted)) > 1:
        return predicted
    first, *between, last = _sides(_DELIMITERS.sub(" ", predicted))
    name = first.strip()
    is_told = not all(map(_has_unknown, (name, *between))) and not _PRODUCT.search(name)
    return last if is_told or _IDENTIFIER.fullmatch(name) or has_prose(name) else ""


def _has_unknown(side: str) -> bool:
    """Whether letters are in it: the constants e and i, and variables that a sum or a limit binds, are none."""
    return _UNKNOWN.search(_COMMAND.sub("", side)) is not None and _BINDING.search(side) is None


def _sides(text: str) -> list[str]:
    """A text cut at its equals signs, but for those in braces."""
    sides, start, depth = list[str](), 0, 0
    for found in _EQUALS.finditer(text):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if found[0] == "=" and depth == 0:
            sides.append(text[start : found.start()])
            start = found.end()
    return [*sides, text[start:]]


def _has_words(text: str) -> bool:
    """Letters side by side are a product to the parser: "Tokyo" would equal "kyoTo"."""
    return any(_FUNCTION.fullmatch(word) is None for word in _WORD.findall(_COMMAND.sub(" ", text)))


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _is_huge(exponents: str) -> bool:
    """Whether exponents upon exponents, such as "^9^9" or "^{9^{9", come to more than the largest allowed one."""
    height = 1
    for digits in reversed(_WHOLE_PART.findall(exponents)):
        base = int(digits[:20])
        if base > 1 and height * base.bit_length() > 64:
            return True
        height = base**height
    return height > MAX_EXPONENT
