r"""Which numbers of a text stand for themselves, and which are parts of a larger expression.

27 miles, $1,250, \frac{3}{4}, 2 x 10^3, 12万円, マイナス5, 48 cm^2     one number
x = 5, 3 x 9 = 27, 48/2 = 24                                        the number on the last side
10:45, (1, 2), 5-7, 2x + 3, x < 4, 3時間20分, March 5                 none, though there are digits
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from latent_gemma.text.tokens import CJK, COUNTERS, Token, plain, tokens

#: Looking for an operator, this many words of a unit are passed over.
MAX_UNIT_WORDS = 3
#: A longer text is no number with its unit.
MAX_NUMBER_CHARS = 200
#: The first number of a text is looked for in so many characters, the last one in so many of each line.
MAX_CHARS = 2000

#: Between numbers these words do what an operator, a range's dash or an equals sign does.
_OPERATORS = frozenset(["x", "X", "plus", "minus", "times"])
_RANGES = frozenset(["to", "から", "対"])
_EQUALS = frozenset(["is", "equals", "makes", "gives"])
#: Letters behind a number that make a product of it ("2x", "3ab"); others are units ("27km", "6c", "3rd").
_PRODUCT = re.compile(r"[abeijnqruvwxyzABXYZαβθ]{1,3}(?:\^.*)?|pi|sqrt|sin|cos|tan|log|ln")
_UNKNOWN = re.compile(r"(?![aAI]$)[A-Za-z](?:[-^].*)?")
_MONTH = re.compile(
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?",
    re.IGNORECASE,
)
#: Units of which two in a row make one quantity: "3 hours 20 minutes", "5 feet 4 inches", 1メートル50センチ.
_SCALES = (
    re.compile("(?:second|sec|minute|min|hour|hr|day|week|month|year)s?|[hms]|[秒分時日週月年].*|[かヶ]月.*"),
    re.compile("inch(?:es)?|in|feet|foot|ft|yards?|miles?|k?m|[cm]m|(?:ミリ|センチ|キロ|メートル).*"),
    re.compile("ounces?|oz|pounds?|lbs?|k?g|(?:グラム|キロ).*"),
    re.compile("cents?|dollars?|euros?|pence|(?:円|銭|ドル|セント).*"),
)
_NOT = re.compile(r"(?:\bnot|n't)(?: (?:be|exactly|just|only))? ?$", re.IGNORECASE)
_RATHER = re.compile(r"[^\s0-9,、。]{0,6}?(?:では|じゃ)(?:なく|ない|ありません)")
_OR = re.compile(r"[^0-9.。;；\n]{0,20}?(?:\bor|または|又は|もしくは|あるいは|か|/) *")
_AND = re.compile(r" *(?:,|、|と|&|,? and) *")
_LETTER = re.compile(r"[^\W\d_]")
_CLOSING = re.compile(r"[)\]}]")

_ABOUT = re.compile(
    r"[\s($€£¥₹]*(?:(?:about|around|approximately|approx\.|roughly|nearly|almost|exactly|only|just)\s|約|およそ|"
    r"ちょうど|[~≈])?[\s$€£¥₹]*",
    re.IGNORECASE,
)
_JAPANESE_UNIT = (
    rf"[{COUNTERS}]|年代|世紀|(?:時|分|秒|日|週|年)間|週間|[かヶヵケカ箇](?:月|国|所|年)|番目|回目|つ|ドル|ユーロ|セント|"
    "ポイント|(?:平方|立方)?(?:キロ|センチ|ミリ|デシ|ヘクト|メガ|ギガ)?"
    "(?:メートル|グラム|リットル|トン|ワット|ヘルツ|バイト)?"
)
_UNIT_WORD = rf"[\s-]?(?!(?:or|and|to|is|of)\b)(?:[^\W\d_{CJK}]+|°[CF]?)\.?(?:\^?\{{?[23]\}}?)?"
_PER_UNIT = r"\s?/\s?[a-zA-Z]+(?:\^?\{?[23]\}?)?"
#: Up to three words, or what Japanese counts with; then a copula and the end of a sentence.
_UNIT = re.compile(
    rf"((?:{_UNIT_WORD}){{0,3}}(?:{_PER_UNIT})?|\s?(?:{_JAPANESE_UNIT}))\)?\s*(?:です|でした|だ|である)?[.。!\s]*"
)


@dataclass(frozen=True)
class Quantity:
    """A number of a text, or an expression of numbers.

    Args:
        values: what it may be read as, the usual reading first; none for an expression that is no single number.
        start: where it begins in the plain text; of several sides, where the last one does.
        end: the position behind it, a unit not included.
        depth: the number of brackets it stands in.
    """

    values: tuple[Fraction, ...]
    start: int
    end: int
    depth: int


class Number(NamedTuple):
    """A number that stands for itself.

    Args:
        values: what it may be read as, the usual reading first, at least one.
        text: as it is written, sign included, unit not.
        rest: what the text says behind it: a unit, or more.
    """

    values: tuple[Fraction, ...]
    text: str
    rest: str


def quantities(text: str) -> list[Quantity]:
    """Find the numbers and the expressions of numbers in a text.

    Args:
        text: a plain one; see `plain`.

    Returns:
        All of them in order, but for those that are denied ("not 17", 17ではなく).
    """
    cut, found, index = list(tokens(text)), list[Quantity](), 0
    while index < len(cut):
        if cut[index].kind != "number":
            index += 1
            continue
        quantity, index = _Expression(cut, index).read()
        denied = _NOT.search(text, max(0, quantity.start - 16), quantity.start) or _RATHER.match(text, quantity.end)
        if not denied:
            found.append(quantity)
    return found


def first_number(text: str) -> Number | None:
    """Read the first number of an answer.

    Args:
        text: an answer: "27 miles", "about 35%", 答えは12万円.

    Returns:
        The number; None where there is none, the first one is a part of an expression, or it is one of several given
        at once ("39 or 40", "1, 2").
    """
    text = plain(text[:MAX_CHARS])
    found = quantities(text)
    if not found or not found[0].values:
        return None
    first = found[0]
    if len(found) > 1 and any(tie.fullmatch(text, first.end, found[1].start) for tie in (_OR, _AND)):
        return None
    return Number(first.values, text[first.start : first.end], text[first.end :].strip())


def last_number(text: str) -> Number | None:
    """Read the last number of a text.

    Args:
        text: any.

    Returns:
        The number; None where there is none, or the last one is a part of an expression or one of a choice. What
        stands in brackets behind another number explains it: of "18 (not 17)" it is 18.
    """
    for line in reversed(plain(text).split("\n")):
        # Of a longer line the end is read, from a space on, where no number is cut.
        line = line if len(line) <= MAX_CHARS else line[-MAX_CHARS:].partition(" ")[2]
        found = quantities(line)
        while len(found) > 1 and found[-1].depth and _is_remark(line, found[-1]):
            found.pop()
        if found:
            last, before = found[-1], found[-2] if len(found) > 1 else found[-1]
            beside = f"{line[: before.start]} {line[last.end :]}"
            is_list = _AND.fullmatch(line, before.end, last.start) and not _LETTER.search(beside)
            if not last.values or is_list or _OR.fullmatch(line, before.end, last.start):
                return None
            return Number(last.values, line[last.start : last.end], line[last.end :].strip())
    return None


def _is_remark(text: str, quantity: Quantity) -> bool:
    """Whether a number in brackets only explains what stands before them: it is an expression, or in a sentence."""
    opened = max(text.rfind(bracket, 0, quantity.start) for bracket in "([{")
    beside = text[opened + 1 : quantity.start] + _CLOSING.split(text[quantity.end :], maxsplit=1)[0]
    return not quantity.values or _LETTER.search(beside) is not None


def whole_number(text: str) -> Number | None:
    """Read a text that is one number and nothing else.

    Args:
        text: such as "27", "about $27", "27 square miles", 二十四個です.

    Returns:
        The number, its unit in folded case as the rest; None for any other text.
    """
    text = plain(text).strip() if len(text) <= MAX_NUMBER_CHARS else ""
    found = quantities(text)
    if len(found) != 1 or not found[0].values or text.count("(") != text.count(")"):
        return None
    start, end = found[0].start, found[0].end
    unit = _UNIT.fullmatch(text, end) if _ABOUT.fullmatch(text, 0, start) else None
    return None if unit is None else Number(found[0].values, text[start:end], unit[1].strip(" .-").casefold())


class _Expression:
    """One number and what is tied to it by operators, equals signs, brackets and units."""

    def __init__(self, cut: Sequence[Token], index: int) -> None:
        self.cut, self.index = cut, index
        #: The first number of the last side, the position behind that side, and its value if it is one number alone.
        self.side = cut[index]
        self.end = self.side.end
        self.values = self.side.values
        #: It is an equation with an unknown, a relation, a range or a pair: no side of it is the answer.
        self.opaque = False
        #: It goes on from "y - x =": of two sides of numbers, y - x = 7 - 5 = 2, the last one says what that is.
        self.continues = False

    def read(self) -> tuple[Quantity, int]:
        """The quantity, and the index of the token behind it."""
        depth = self.side.depth
        self._look_back()
        after: int | None = self._read_factor(self.index + 1)
        at = self.index + 1
        while after is not None:
            at, after = after, self._tied(after)
        return Quantity(() if self.opaque else self.values, self.side.start, self.end, depth), at

    def _at(self, index: int) -> Token | None:
        return self.cut[index] if 0 <= index < len(self.cut) else None

    def _kind(self, index: int) -> str:
        token = self._at(index)
        return "" if token is None else token.kind

    def _text(self, index: int) -> str:
        token = self._at(index)
        return "" if token is None else token.text

    def _is_unknown(self, index: int) -> bool:
        return self._kind(index) == "word" and _UNKNOWN.fullmatch(self._text(index)) is not None

    def _look_back(self) -> None:
        """What stands before the number: a root, an operator behind an unknown, a relation, a month."""
        before = self.index - 1
        while self._kind(before) == "open":
            before -= 1
        token, operand = self._at(before), before - 1
        if token is None:
            return
        tied = self._is_unknown(operand) or self._kind(operand) in ("close", "symbol", "subscript")
        if token.kind == "equals":  # "x = 5" says what x is; "y - x = 5" and "x^2 = 9" do not
            is_name = len(self._text(operand)) == 1 and self._kind(operand - 1) != "operator"
            self.opaque = self.continues = self._is_unknown(operand) and not is_name
        elif token.kind == "operator":
            self.opaque = token.text == "±" or (tied and token.text not in ":~")
        elif token.kind == "comma":
            self.opaque = token.depth > 0 and tied
        elif token.kind == "word":
            self.opaque = _MONTH.fullmatch(token.text) is not None
        elif token.kind == "symbol":
            self.values = ()
        else:
            self.opaque = token.kind in ("relation", "subscript")

    def _read_factor(self, at: int) -> int:
        """What stands right behind a number: an unknown, a root, the base of its digits; a month."""
        token = self._at(at)
        if token is None:
            return at
        if token.kind == "word" and token.start == self.end and _PRODUCT.fullmatch(token.text):
            self.opaque = True
            return at + 1
        if token.kind in ("symbol", "subscript") and token.text != "…":
            self.values = ()
            return at + 1
        self.opaque = self.opaque or (token.kind == "word" and _MONTH.fullmatch(token.text) is not None)
        return at

    def _tied(self, at: int) -> int | None:
        """Read on to the next operand.

        Args:
            at: index of the token behind the last one.

        Returns:
            The index behind the operand; None if nothing ties another one to this.
        """
        while self._kind(at) == "close":
            at += 1
        sign = at
        while sign < at + MAX_UNIT_WORDS and self._kind(sign) in ("word", "cjk", "close"):
            if self._text(sign) in _OPERATORS | _RANGES | _EQUALS:
                break
            sign += 1
        operand = sign + 1
        while self._kind(operand) == "open":
            operand += 1
        token, following = self._at(sign), self._at(operand)
        if token is not None and token.kind == "number":
            return self._side_by_side(at, sign)
        if token is None or following is None:
            return None
        is_number = following.kind == "number"
        if token.kind == "equals" or (token.text in _EQUALS and is_number and not self.values):
            return self._next_side(following, operand)
        is_operand = is_number or following.kind == "symbol" or self._is_unknown(operand)
        if not (is_operand and self._ties(token, sign, sign == at, is_number)):
            return None
        self.values = ()
        self.opaque = self.opaque or not is_number or token.kind in ("relation", "comma")
        self.end = following.end
        return operand + 1

    def _next_side(self, following: Token, operand: int) -> int | None:
        """Go on behind an equals sign."""
        if following.kind == "number":
            self.side, self.end, self.values = following, following.end, following.values
            self.opaque = self.opaque and not self.continues
            return self._read_factor(operand + 1)
        self.values = () if following.kind == "symbol" else self.values
        return None

    def _ties(self, token: Token, sign: int, direct: bool, is_number: bool) -> bool:
        """Whether a sign makes one expression of its two sides.

        Args:
            token: the sign.
            sign: its index.
            direct: no unit stands before it.
            is_number: a number follows.
        """
        spaces = (token.start > self.cut[sign - 1].end, self.cut[sign + 1].start > token.end)
        if token.kind == "comma":  # of pairs; "In 2020, 5 people" are two numbers
            return token.depth > 0 or spaces == (False, False)
        if token.text in _RANGES or token.text in ":~〜∶":  # 10:45, 5 to 7; but "Step 2: 15"
            return direct and is_number and spaces[0] == spaces[1]
        if token.text == "/":  # "$5/h" is a price
            return is_number or direct
        return token.kind in ("operator", "relation") or token.text in _OPERATORS

    def _side_by_side(self, at: int, other: int) -> int | None:
        """Two numbers with nothing but a unit between them: 3 hours 20 minutes, 1メートル50センチ; or "42 43".

        Args:
            at: index behind the first.
            other: index of the second.

        Returns:
            The index behind the second; None if each stands for itself, as in "3 30-minute episodes".
        """
        if other == at:
            if self._kind(other + 1) in ("word", "cjk") or self._kind(other + 2) == "word":
                return None
        else:
            one, two = self._text(at), self._text(other + 1)
            joined = other - at == 1 or (other - at == 2 and self._text(at + 1) == "and")
            if not joined or one == two or not any(s.fullmatch(one) and s.fullmatch(two) for s in _SCALES):
                return None
        self.opaque, self.end = True, self.cut[other].end
        return other + 1
