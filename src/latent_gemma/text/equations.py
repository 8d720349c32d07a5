r"""Equations between numbers in a text, each true or false by exact arithmetic; nothing is evaluated as code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from latent_gemma.text.normalize import fold_characters, strip_thousands

#: Only the end of a longer text is searched.
MAX_TEXT_CHARS = 100_000
#: Passed over: longer numbers, sides of more numbers and signs, deeper brackets, larger powers.
MAX_DIGITS, MAX_TOKENS, MAX_DEPTH, MAX_POWER_BITS = 40, 100, 20, 4096

_OPERAND = r"(?=[-(.0-9])"
#: What is written in its own way -> what the scanner knows, in order; "≡" is a spoken "=".
_SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), plain)
    for pattern, plain in (
        (r"<<([^<>\n]*)>>", r";\1;"),
        (r"\\(?:left|right)(?![a-z])|\\[,;!: ]", " "),
        (r"\\[()\[\]]|[!<>=~]=|[=-]>|[~≈≡≠≤≥]", ";"),
        (r"(?<=[0-9])\{,\}(?=[0-9]{3})", ","),
        (r"\\[dt]?frac ?\{([^{}]*)\} ?\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\(?:times|cdot)(?![a-z])|×", "*"),
        (r"\\div(?![a-z])|[÷∕⁄]", "/"),
        (r"(?<=[a-z])[$€£¥]", " "),
        (r"\\?[$€£¥]|\\(?=%)", ""),
        (r"[\[{]", "("),
        (r"[\]}]", ")"),
        (r"^ ?(?:[-*+•]|[0-9]{1,2}[.)]) ", ";"),  # the mark of a list
        (r"\s?=\s?", "="),
        (rf"(?<=[0-9)])\*\*{_OPERAND}", "^"),
        (r"\*\*", " "),  # bold
        (r"(?<=[0-9)%]) ?x ?(?=[(.0-9])", "*"),  # the x of "2x-3" is another one
        (rf"(?<=[0-9)%]) ?(?:[✕✖·⋅∗]|times|multiplied by) ?{_OPERAND}", "*"),
        (rf"(?<=[0-9)%]) divided by {_OPERAND}", "/"),
        (rf"(?<=[0-9)%]) plus {_OPERAND}", "+"),
        (rf"(?<=[0-9)%]) minus {_OPERAND}", "-"),
        (rf"(?<=[0-9)%]) (?:is|equals|is equal to) {_OPERAND}|(?<=[0-9)%])は{_OPERAND}", "≡"),
        (r"(?<=[0-9]) percent\b", "%"),
        (r"(?<=[0-9]) (?=000(?![0-9]))", ","),
        (r"/ ([0-9]+/[0-9]+)(?![0-9])", r"/(\1)"),  # 2 / 1/5 is meant to be 10
    )
)
_MIXED = re.compile(r"(?<![0-9.,/^])([0-9]{1,9}) ([0-9]{1,9})/([0-9]{1,9})(?![0-9.,])")
_DASH = re.compile("[—―…]")
_VULGAR = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])")
_NUMBER = r"[0-9][0-9.,]*[0-9]|\.?[0-9]+"
_RUN = re.compile(rf"(?:{_NUMBER}|[-+*/^%()=≡ ])+")
_TOKEN = re.compile(rf"({_NUMBER})|([-+*/^%()])")
_FRACTION = re.compile("([0-9]{1,9})/([0-9]{1,9})")
_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
#: Two numbers side by side: one equation ends, the next begins.
_SEAM = re.compile(r"(?<=[0-9)]) +(?=[0-9.])|(?<=[0-9)%]) +(?=\()")
_SPLIT = re.compile("([=≡])")
# A side that goes on in words: "half of 10 * 2 =", "= 2 times 5", "= 3万", "= 3 余り 1", "= 5y".
_BEFORE = re.compile(
    r"(?:[0-9%]|\b(?:half|third|quarter|fourth|fifth|percent)s?) of (?:the )?$"
    r"|\b(?:times|plus|minus|twice|thrice|double|triple|root of|square of|(?:divided|multiplied) by) $"
    r"|[0-9%分]の$|[0-9]:$|[√∛∑∏∫±|] ?$|[A-Za-zα-ωΑ-Ω_\\&#@]$|\b[A-Za-z] $",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r" ?(?:times|plus|minus|divided|multiplied|squared|cubed|remainder|dozens?|hundred|thousand|million|billion"
    r"|trillion|of|r ?[0-9]+)\b| ?and \(?[0-9]+/[0-9]+\)?(?! ?[-+*/=])| [0-9]{3}(?![0-9])| ?[万億兆千百割]"
    r"|分の| ?(?:余り|あまり)|[√∛_|]|\.\.|:[0-9]|[A-Za-zα-ωΑ-Ω](?![^\W\d_])",
    re.IGNORECASE,
)
_LETTER_AT_END = re.compile(r"[^\W\d_] ?$")


class _NoSum(Exception):
    """A side that is no sum of numbers, or too large a one."""


@dataclass(frozen=True)
class Equation:
    """An equation between numbers.

    Args:
        text: as it was understood, "48/2=24".
        is_true: whether both sides are exactly equal.
    """

    text: str
    is_true: bool


class _Side:
    """One side of an equation, read by recursive descent.

    Args:
        text: signs, numbers and brackets.
        percent: what a percent sign multiplies by.

    Attributes:
        signs: which of `+ - * / ^ %` it is worked out by; empty for a number alone.
        value: None if it divides by zero.
    """

    def __init__(self, text: str, percent: Fraction) -> None:
        self.tokens = [number or sign for number, sign in _TOKEN.findall(text)]
        if not self.tokens or len(self.tokens) > MAX_TOKENS:
            raise _NoSum
        self.percent, self.place, self.depth, self.signs = percent, 0, 0, set[str]()
        self.value: Fraction | None
        try:
            self.value = self._sum()
        except ZeroDivisionError:
            self.value = None
        if self.value is not None and self.place < len(self.tokens):
            raise _NoSum

    def _next(self, among: str) -> str:
        """The next token if it is one of these signs, "" if not."""
        token = self.tokens[self.place] if self.place < len(self.tokens) else ""
        if not token or token not in among:
            return ""
        self.place += 1
        return token

    def _meets_operand(self) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place] not in "+-*/^%)"

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._next("+-"):
            self.signs.add(sign)
            other = self._product()
            value = value + other if sign == "+" else value - other
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            sign = self._next("*/")
            if not sign and self.place < len(self.tokens) and self.tokens[self.place] == "(":
                sign = "*"  # 2(3+4)
            if not sign and self._next("%"):  # with a number behind it, the remainder
                sign = "%"
            if not sign:
                return value
            self.signs.add(sign)
            other = self._signed()
            value = value * other if sign == "*" else value / other if sign == "/" else value % other

    def _signed(self) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _NoSum
        sign = self._next("+-")
        value = self._signed() if sign else self._power()
        self.depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> Fraction:
        base = self._number()
        if self._next("%"):
            if self._meets_operand():
                self.place -= 1  # a remainder
            else:
                base *= self.percent
        if not self._next("^"):
            return base
        self.signs.add("^")
        exponent = self._signed()
        bits = max(abs(base.numerator).bit_length(), base.denominator.bit_length())
        if exponent.denominator != 1 or bits * abs(exponent) > MAX_POWER_BITS:
            raise _NoSum
        return base ** int(exponent)

    def _number(self) -> Fraction:
        if self._next("("):
            value = self._sum()
            if not self._next(")"):
                raise _NoSum
            return value
        if not self._meets_operand():
            raise _NoSum
        digits = strip_thousands(self.tokens[self.place])
        self.place += 1
        if len(digits) > MAX_DIGITS or not _PLAIN_NUMBER.fullmatch(digits):
            raise _NoSum
        return Fraction(digits)


def _plain(text: str) -> str:
    """A text in the spelling that the scanner knows; no two blanks side by side."""
    text = fold_characters(_VULGAR.sub(" ", _DASH.sub(";", text)))
    text = "\n".join(" ".join(line.split()) for line in text.splitlines())
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    return _MIXED.sub(lambda m: f"({m[1]}+{m[2]}/{m[3]})" if int(m[2]) < int(m[3]) else m[0], text)


def _without_open_brackets(side: str) -> str:
    """A first side without the brackets that close behind the equation: "(48/2" of "(48/2=24)"."""
    while side.startswith("(") and side.count("(") > side.count(")"):
        side = side[1:].lstrip()
    return side


def _without_closing_brackets(side: str) -> tuple[str, bool]:
    """A last side up to the bracket that was opened before the equation, and whether it was cut there."""
    depth = 0
    for place, character in enumerate(side):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return side[:place], True
    return side, False


def _goes_on_before(side: str, before: str) -> bool:
    """Whether a first side is only the end of what the text says."""
    if _BEFORE.search(before) or (side.startswith("-") and _LETTER_AT_END.search(before) and not before.endswith(" ")):
        return True
    if _is_share(side) and re.search("[0-9] and $", before):  # "1 and 1/4"
        return True
    if side[:1] in ("+", "*", "/", "^", "%", ")") or side.startswith("- "):
        return True
    return _PLAIN_NUMBER.fullmatch(strip_thousands(side.rstrip("%"))) is not None and bool(
        _LETTER_AT_END.search(before)
    )


def _sides(text: str) -> Iterator[tuple[str, str, str]]:
    """Left side, equals sign and right side of what looks like an equation."""
    for run in _RUN.finditer(text):
        if "=" not in run[0] and "≡" not in run[0]:
            continue
        end = run.start()
        for piece in _SEAM.split(run[0]):
            start = text.index(piece, end)
            end = start + len(piece)
            parts = _SPLIT.split(piece)
            first, last = _without_open_brackets(parts[0].strip()), parts[-1].strip()
            # Up to here a bracket was passed, or the text itself.
            before = "(" if first != parts[0].strip() else text[max(0, start - 40) : start] + piece[: _blank(piece)]
            parts[0] = "" if _goes_on_before(first, before) else first
            last, was_cut = _without_closing_brackets(last)
            parts[-1] = "" if not was_cut and _BEHIND.match(text[end : end + 20]) else last
            for place in range(0, len(parts) - 2, 2):
                yield parts[place].strip(), parts[place + 1], parts[place + 2].strip()


def _blank(piece: str) -> int:
    return len(piece) - len(piece.lstrip())


def _is_share(side: str) -> bool:
    """Whether a side is a fraction below 1, which may name a part: not what "48/2 is 24" works out."""
    match = _FRACTION.fullmatch(side)
    return match is not None and int(match[1]) < int(match[2])


def _judged(left: str, right: str, is_spoken: bool) -> Equation | None:
    """The equation; None if it claims nothing or is beyond what is read."""
    try:
        sides = _Side(left, Fraction(1, 100)), _Side(right, Fraction(1, 100))
        claims = bool(sides[0].signs or sides[1].signs)
        if is_spoken:  # "1/3 is 20/2" speaks of a share
            claims = bool(sides[0].signs) and not _is_share(left)
        if left == right or not claims:
            return None
        is_true = sides[0].value is not None and sides[0].value == sides[1].value
        # "20/50*100=40%": where a percent sign stands in a sum or beside a number alone, it may be a mere unit.
        if not is_true and all(
            side.signs <= {"+", "-"} for side, text in zip(sides, (left, right), strict=True) if "%" in text
        ):
            units = _Side(left, Fraction(1)), _Side(right, Fraction(1))
            is_true = units[0].value is not None and units[0].value == units[1].value
    except _NoSum:
        return None
    return Equation("".join(f"{left}={right}".split()), is_true)


def find_equations(text: str) -> tuple[Equation, ...]:
    r"""Find the equations between numbers in a text.

    Args:
        text: any text; of more than 100,000 characters the end is searched.

    Returns:
        Each different equation once, in order; `a = b = c` is the two equations a = b and b = c. Read are
        `+ - * / × ÷ ^ **`, `%` as percent or remainder, brackets, thousands separators, mixed numbers, full-width
        characters, LaTeX's `\times` and `\frac`, GSM8K's `<<48/2=24>>`, and words as in "48 divided by 2 is 24". Not
        counted: what holds a variable, or a word or unit between its numbers; a number alone on both sides, or the
        same on both, which claims nothing; a side that goes on in words ("half of 10 = 5", "= 3 thousand"); what is
        beyond the limits of this module. What is divided by zero equals nothing, and a rounded value is not equal.
    """
    found: dict[str, Equation] = {}
    for left, sign, right in _sides(_plain(text[-MAX_TEXT_CHARS:])):
        equation = _judged(left, right, is_spoken=sign == "≡")
        if equation is not None:
            found.setdefault(equation.text, equation)
    return tuple(found.values())


def share_true(text: str) -> float:
    """The share of a text's equations that are true.

    Args:
        text: written reasoning.

    Returns:
        0 to 1; 0 where there is no equation.
    """
    equations = find_equations(text)
    return sum(equation.is_true for equation in equations) / len(equations) if equations else 0.0
