r"""Which numbers of a text stand for themselves, and which are parts of a larger expression.

    27 miles, $1,250, \frac{3}{4}, 2 x 10^3, 12万円, マイナス5, 48 cm^2     one number
    x = 5, 3 x 9 = 27, 48/2 = 24                                        the number on the last side
    10:45, (1, 2), 5-7, 2x + 3, x < 4, 3時間20分, March 5                 none, though there are digits

The time is linear in the text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import NamedTuple

from latent_gemma.text.latex import plain_latex
from latent_gemma.text.normalize import fold_characters, strip_emphasis
from latent_gemma.text.numerals import KANJI, numeral_at

#: Looking for an operator, this many words of a unit are passed over.
MAX_UNIT_WORDS = 3
#: A longer text is no number with its unit.
MAX_NUMBER_CHARS = 200
#: The first number of a text is looked for in so many characters, the last one in so many of each line.
MAX_CHARS = 2000

_CJK = r"\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
_CJK_CHARACTER = re.compile(f"[{_CJK}]")
#: "cm^2", "m2", "H2O" and "COVID-19" are words; the digits in them count nothing.
_WORD = re.compile(rf"[^\W\d_{_CJK}]+(?:'[a-z]+)?(?:[-^]?\{{?-?[0-9]+(?:\.[0-9]+)?\}}?)*")
_SYMBOL = re.compile(r"\\[A-Za-z]+|[√π∞∑∫…]")
_SUBSCRIPT = re.compile(r"_\{?\w+\}?")
#: How GSM8K notes what a calculator has found, and tags.
_CALCULATED = re.compile(r"<<[^<>\n]{0,200}>>|</?[a-zA-Z]{1,12}\s?/?>")
_EQUALS = re.compile(r"[=-]>|[=≈≒→⇒]")
_RELATION = re.compile("[<>≤≥≠∈]")
_OPERATOR = re.compile(r"\*\*|[-+*/×÷^·±:~〜∶]")
_SIGN = re.compile(r"[-+][$€£¥]?(?=\.?[0-9])")
_SIGN_BEHIND_EQUALS = re.compile(r"[-+] ?[$€£¥]? ?(?=\.?[0-9])")
#: Between numbers these do what an operator or an equals sign does.
_OPERATOR_WORDS = frozenset(["x", "X", "plus", "minus", "times"])
_RANGE_WORDS = frozenset(["to", "から", "対"])
_EQUAL_WORDS = frozenset(["is", "equals", "makes", "gives"])
#: Letters behind a number that make a product of it ("2x", "3ab"); others are units ("27km", "6c", "3rd").
_UNKNOWN = re.compile(r"[abeijnqruvwxyzABXYZαβθ]{1,3}(?:\^.*)?|pi|sqrt|sin|cos|tan|log|ln")
_NEGATIVE = re.compile(r"(?:(?:minus|negative) {1,2}|マイナス ?|負の ?)(?=[$€£¥]?\.?[0-9" + KANJI + "])", re.IGNORECASE)
_NOT = re.compile(r"(?:\bnot|n't)(?: (?:be|exactly|just|only))? ?$", re.IGNORECASE)
_RATHER = re.compile(r"[^\s0-9,、。]{0,6}?(?:では|じゃ)(?:なく|ない|ありません)")
_MONTHS = re.compile(
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)",
    re.IGNORECASE,
)
#: Units of which two in a row make one quantity: "3 hours 20 minutes", "5 feet 4 inches", 1メートル50センチ.
_SCALES = (
    re.compile("(?:second|sec|minute|min|hour|hr|day|week|month|year)s?|[hms]|[秒分時日週月年].*|[かヶ]月.*"),
    re.compile("inch(?:es)?|in|feet|foot|ft|yards?|miles?|k?m|[cm]m|(?:ミリ|センチ|キロ|メートル).*"),
    re.compile("ounces?|oz|pounds?|lbs?|k?g|(?:グラム|キロ).*"),
    re.compile("cents?|dollars?|euros?|pence|(?:円|銭|ドル|セント).*"),
)
_COUNTERS = "個人円本枚匹冊台回年月日時分秒週歳才倍度点位羽頭杯箱袋組通問題束着足軒階脚名件社店校種曲話巻章条項票色段球粒滴割"
_BEFORE_NUMERAL = "約計全各第合"
_ABOUT = re.compile(
    r"[\s($€£¥₹]*(?:(?:about|around|approximately|approx\.|roughly|nearly|almost|exactly|only|just)\s|約|およそ|ちょうど|[~≈])?[\s$€£¥₹]*",
    re.IGNORECASE,
)
_MEASURES = (
    rf"[{_COUNTERS}]|年代|世紀|(?:時|分|秒|日|週|年)間|週間|[かヶヵケカ箇](?:月|国|所|年)|番目|回目|つ|"
    "(?:平方|立方)?(?:キロ|センチ|ミリ|デシ|ヘクト|メガ|ギガ)?(?:メートル|グラム|リットル|トン|ワット|ヘルツ|バイト)?|ドル|ユーロ|セント|ポイント"
)
#: Up to three words, or what Japanese counts with; then a copula and the end of a sentence.
_UNIT_WORD = rf"[\s-]?(?!(?:or|and|to|is|of)\b)(?:[^\W\d_{_CJK}]+|°[CF]?)\.?(?:\^?\{{?[23]\}}?)?"
_PER_UNIT = r"\s?/\s?[a-zA-Z]+(?:\^?\{?[23]\}?)?"
_UNIT = re.compile(
    rf"((?:{_UNIT_WORD}){{0,3}}(?:{_PER_UNIT})?|\s?(?:{_MEASURES}))\)?\s*(?:です|でした|だ|である)?[.。!\s]*"
)
_OR = re.compile(r"[^0-9.。;；\n]{0,20}?(?:\bor|または|又は|もしくは|あるいは|か|/) *")
_AND = re.compile(r" *(?:,|、|と|&|,? and) *")


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


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    depth: int
    values: tuple[Fraction, ...] = ()


def plain(text: str) -> str:
    """A text as numbers are looked for in it: plain characters, LaTeX written out, no emphasis, no `<<6*7=42>>` or `<br>`."""
    return plain_latex(strip_emphasis(_CALCULATED.sub("", fold_characters(text))))


def quantities(text: str) -> list[Quantity]:
    """Find the numbers and the expressions of numbers in a text.

    Args:
        text: a plain one; see `plain`.

    Returns:
        All of them in order, but for those that are denied ("not 17", 17ではなく).
    """
    tokens, found, index = list(_tokens(text)), list[Quantity](), 0
    while index < len(tokens):
        if tokens[index].kind == "number":
            quantity, index = _Expression(tokens, index).read()
            if not (_NOT.search(text, max(0, quantity.start - 16), quantity.start) or _RATHER.match(text, quantity.end)):
                found.append(quantity)
        else:
            index += 1
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
            is_list = _AND.fullmatch(line, before.end, last.start) and not re.search(r"[^\W\d_]", beside)
            if not last.values or is_list or _OR.fullmatch(line, before.end, last.start):
                return None
            return Number(last.values, line[last.start : last.end], line[last.end :].strip())
    return None


def _is_remark(text: str, quantity: Quantity) -> bool:
    """Whether a number in brackets only explains what stands before them: it is an expression, or in a sentence."""
    opened = max(text.rfind(bracket, 0, quantity.start) for bracket in "([{")
    beside = text[opened + 1 : quantity.start] + re.split(r"[)\]}]", text[quantity.end :], maxsplit=1)[0]
    return not quantity.values or re.search(r"[^\W\d_]", beside) is not None


def whole_number(text: str) -> Number | None:
    """Read a text that is one number and nothing else.

    Args:
        text: such as "27", "about $27", "27 square miles", 二十四個です.

    Returns:
        The number, its unit in folded case as the rest; None for any other text.
    """
    if len(text) > MAX_NUMBER_CHARS:
        return None
    text = plain(text).strip()
    found = quantities(text)
    if len(found) != 1 or not found[0].values or text.count("(") != text.count(")") or not _ABOUT.fullmatch(text, 0, found[0].start):
        return None
    values, start, end, _ = astuple(found[0])
    unit = _UNIT.fullmatch(text, end)
    return None if unit is None else Number(values, text[start:end], unit[1].strip(" .-").casefold())


def _tokens(text: str) -> Iterator[_Token]:
    in_kanji = re.search("[0-9]", text) is None
    position, depth, last = 0, 0, ""
    while position < len(text):
        character = text[position]
        kind, end, values = "other", position + 1, tuple[Fraction, ...]()
        if character.isspace() or character in "$€£¥₹|":
            position += 1
            continue
        if "0" <= character <= "9" or (character == "." and text[position + 1 : position + 2].isdecimal()):
            number = numeral_at(text, position)
            if number is not None:
                kind, end, values = "number", number.end, number.values
                if text[max(0, position - 1)] in "([" and "," in text[position:end] and text[end : end + 1] in (",", ")", "]"):
                    values = ()  # (3,100) is a pair
        elif in_kanji and character in KANJI and (kanji := _kanji_number(text, position)) is not None:
            kind, (end, values) = "number", kanji
        elif last not in ("number", "close", "subscript") and (sign := _sign(text, position, last)) is not None:
            # A sign, but not the minus of "10-4".
            number = numeral_at(text, sign.end())
            if number is not None:
                factor = 1 if character == "+" else -1
                kind, end, values = "number", number.end, tuple(factor * value for value in number.values)
        elif character in "([{":
            depth += 1
            kind = "open"
        elif character in ")]}":
            depth = max(0, depth - 1)
            kind = "close"
        elif last == "number" and character in "xX" and text[position + 1 : position + 2].isdecimal():
            kind = "operator"
        elif _CJK_CHARACTER.match(character):
            kind = "cjk"
            while end < len(text) and _CJK_CHARACTER.match(text[end]) and not (in_kanji and text[end] in KANJI):
                if text.startswith(("マイナス", "負の"), end):
                    break
                end += 1
        else:
            for name, pattern in _PATTERNS:
                if match := pattern.match(text, position):
                    kind, end = name, match.end()
                    break
        yield _Token(kind, text[position:end], position, end, depth, values)
        position, last = end, kind


def _sign(text: str, position: int, last: str) -> re.Match[str] | None:
    """A sign, in front of the digits it belongs to; behind a letter it is an operator."""
    if text[position] in "+-":
        if position and text[position - 1].isascii() and text[position - 1].isalnum():
            return None
        return (_SIGN_BEHIND_EQUALS if last == "equals" else _SIGN).match(text, position)
    return _NEGATIVE.match(text, position) if text[position] in "mMnNマ負" else None


_PATTERNS = (
    ("symbol", _SYMBOL), ("word", _WORD), ("equals", _EQUALS), ("relation", _RELATION), ("operator", _OPERATOR),
    ("subscript", _SUBSCRIPT), ("comma", re.compile("[,;、]")),
)  # fmt: skip


def _kanji_number(text: str, start: int) -> tuple[int, tuple[Fraction, ...]] | None:
    """A number in kanji that is no part of a word: 二十四個, but not 統一 or 三重県."""
    number = numeral_at(text, start)
    if number is None or not number.values:
        return None
    before, behind = text[start - 1 : start], text[number.end : number.end + 1]
    in_word = "\u3400" <= before <= "\u9fff" and before not in _BEFORE_NUMERAL and number.end - start == 1
    goes_on = "\u3400" <= behind <= "\u9fff" and behind not in _COUNTERS
    is_enough = text.startswith("十分", start) and number.end - start == 1
    return None if in_word or goes_on or is_enough else (number.end, number.values)


class _Expression:
    """One number and what is tied to it by operators, equals signs, brackets and units."""

    def __init__(self, tokens: Sequence[_Token], index: int) -> None:
        self.tokens, self.index = tokens, index
        self.side = tokens[index]
        self.end = tokens[index].end
        self.values = tokens[index].values
        #: An equation with an unknown, a relation, a range, a pair: no side of it is the answer.
        self.opaque = False

    def read(self) -> tuple[Quantity, int]:
        """The quantity, and the index of the token behind it."""
        depth = self.side.depth
        self._look_back()
        at = self._read_factors(self.index + 1)
        while True:
            after = self._connected(at)
            if after is None:
                break
            at = after
        values = () if self.opaque else self.values
        return Quantity(values, self.side.start, self.end, depth), at

    def _at(self, index: int) -> _Token | None:
        return self.tokens[index] if 0 <= index < len(self.tokens) else None

    def _kind(self, index: int) -> str:
        token = self._at(index)
        return "" if token is None else token.kind

    def _is_letter(self, index: int) -> bool:
        token = self._at(index)
        return token is not None and token.kind == "word" and (len(token.text) == 1 or "^" in token.text) and token.text not in "aAI"

    def _look_back(self) -> None:
        """What stands before the number: a sign of root, an operator behind an unknown, a relation, a month."""
        before = self.index - 1
        while self._kind(before) == "open":
            before -= 1
        token = self._at(before)
        if token is None:
            return
        if token.kind == "equals":
            name = self._at(before - 1)
            tied = self._kind(before - 2) == "operator" or (name is not None and bool(re.search(r"[-^]", name.text)))
            self.opaque = tied and (self._is_letter(before - 1) or self._kind(before - 1) == "word" and "-" in name.text)
        elif token.kind == "operator":
            tied = self._is_letter(before - 1) or self._kind(before - 1) in ("close", "symbol", "subscript")
            self.opaque = token.text == "±" or (tied and token.text not in ":~")
        elif token.kind == "comma":
            tied = self._is_letter(before - 1) or self._kind(before - 1) in ("close", "symbol")
            self.opaque = token.depth > 0 and tied
        elif token.kind == "word":
            self.opaque = _MONTHS.fullmatch(token.text) is not None
        else:
            self.opaque = token.kind in ("relation", "subscript")
            self.values = () if token.kind == "symbol" else self.values

    def _read_factors(self, at: int) -> int:
        """What stands right behind a number: an unknown, a root, a base, another number."""
        token = self._at(at)
        if token is None:
            return at
        attached = token.start == self.end
        if token.kind == "word" and attached and _UNKNOWN.fullmatch(token.text):
            self.values, self.opaque = (), True
            return at + 1
        if token.kind in ("symbol", "subscript") and token.text != "…":
            self.values = ()
            return at + 1
        if token.kind == "word" and _MONTHS.fullmatch(token.text):
            self.opaque = True
        return at

    def _connected(self, at: int) -> int | None:
        """The index behind the next operand, None if nothing ties another one to this."""
        while self._kind(at) == "close":
            at += 1
        behind_unit = at
        while behind_unit < at + MAX_UNIT_WORDS and self._kind(behind_unit) in ("word", "cjk", "close"):
            if self.tokens[behind_unit].text in _OPERATOR_WORDS | _RANGE_WORDS | _EQUAL_WORDS:
                break
            behind_unit += 1
        token, direct = self._at(behind_unit), behind_unit == at
        if token is None:
            return None
        operand = behind_unit + 1
        while self._kind(operand) == "open":
            operand += 1
        following = self._at(operand)
        if token.kind == "number":
            return self._juxtaposed(at, behind_unit)
        if following is None:
            return None
        spaced = (token.start > self.tokens[behind_unit - 1].end, self.tokens[behind_unit + 1].start > token.end)
        is_number = following.kind == "number"
        is_operand = is_number or following.kind == "symbol" or self._is_letter(operand)
        if token.kind == "equals" or (token.text in _EQUAL_WORDS and is_number and not self.values):
            if is_number:
                self.side, self.end, self.values = following, following.end, following.values
                return self._read_factors(operand + 1)
            if following.kind == "symbol":
                self.values = ()
            return None
        if token.kind == "relation":
            self.opaque = self.opaque or is_operand
        elif token.kind == "comma":
            pair = token.depth > 0 or spaced == (False, False)
            if not (pair and (is_operand or following.kind == "operator")):
                return None
            self.opaque = True
        elif token.kind == "operator" or token.text in _OPERATOR_WORDS:
            if not is_operand or (token.text == "/" and not (is_number or direct)) or (token.text in ":~〜∶" and not (direct and is_number and spaced[0] == spaced[1])):
                return None
        elif not (token.text in _RANGE_WORDS and direct and is_number):
            return None
        self.values = ()
        self.opaque = self.opaque or not is_number
        self.end = following.end
        return operand + 1 if is_operand else None

    def _juxtaposed(self, at: int, other: int) -> int | None:
        """Two numbers with nothing but a unit between them: 3 hours 20 minutes, 1メートル50センチ; or "42 43"."""
        if other == at:
            # Of "3 30-minute episodes" each number counts something of its own.
            if self._kind(other + 1) in ("word", "cjk") or self._kind(other + 2) == "word":
                return None
        else:
            one, two = self._at(at), self._at(other + 1)
            joined = other - at == 1 or (other - at == 2 and self.tokens[at + 1].text == "and")
            if one is None or two is None or not joined or one.text == two.text:
                return None
            if not any(scale.fullmatch(one.text) and scale.fullmatch(two.text) for scale in _SCALES):
                return None
        self.opaque, self.end = True, self.tokens[other].end
        return other + 1
