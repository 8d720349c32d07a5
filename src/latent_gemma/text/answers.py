"""Finding the answer in what a model wrote, and comparing it with the accepted ones."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from latent_gemma.text.golds import accepted_forms
from latent_gemma.text.marks import behind_reasoning, has_prose, last_clause, marked_answer, mathematics, said_answer
from latent_gemma.text.normalize import fold_characters, normalize_answer, strip_emphasis, undivided
from latent_gemma.text.options import option_of
from latent_gemma.text.quantities import Number, first_number, last_number, quantities, whole_number
from latent_gemma.text.tokens import plain

#: Whether a prediction equals one of the accepted answers.
Match = Callable[[str | None, Sequence[str]], bool]

#: Longer predictions never match: a page of text that ends well is no answer.
MAX_ANSWER_CHARS = 1000
#: Only the end of a longer text is searched.
MAX_TEXT_CHARS = 100_000
#: Text without marks and numbers is an answer as a whole up to here.
MAX_BARE_CHARS = 100
#: From this many decimals on an accepted number was computed in floating point, and is met within `FLOAT_TOLERANCE`.
LEAST_FLOAT_DECIMALS = 6
#: As the authors of GSM-Hard grade (Gao et al. 2022, PAL): absolute; of accepted numbers below 0.1 one part in 100.
FLOAT_TOLERANCE = Fraction(1, 1000)

_COPULA = re.compile(
    r"(?<=.)、?\s?(?:です|でした|だ|である|となります|になります|となる|になる|だと思います|と思います|でしょう|だろう)(?:よ|ね)?[.。!]*$"
)
_REMARK = re.compile(
    r"(.*[\u3040-\u30ff\u3400-\u9fff々」』]|.*\w\w\w(?=\s))\s*[(（\[［【][^()（）\[\]［］【】]*[)）\]］】][.。]*",
    re.DOTALL,
)
_ARTICLE = re.compile(r"(?:the|an?) (?=\S\S)")
_CALLED_OUT = re.compile(r"(?<=[^\W\d_][^\W\d_])[!?]+$")
_DECIMALS = re.compile(r"\.([0-9]+)")
_DIGIT = re.compile("[0-9]")


@dataclass(frozen=True)
class Grade:
    """How an answer was graded.

    Args:
        strict: what stands in an answer mark, or all of the text, gives an accepted answer.
        lenient: strict, or the answer found by the lenient rules equals an accepted answer.
        extracted: the whole text if that is right, else what the lenient rules found; None if nothing.
    """

    strict: bool
    lenient: bool
    extracted: str | None


def extract_answer(text: str, strict: bool) -> str | None:
    r"""Find the answer in a text.

    Args:
        text: what a model wrote; of more than 100,000 characters the end is searched.
        strict: accept only marked answers: `<answer>..</answer>`, else `#### ..` or `\boxed{..}`; the last of each.

    Returns:
        The answer, stripped, or None. Lenient goes on, where nothing is marked, behind the reasoning (None if the text
        was cut off inside of it), with what "answer is .." or 答えは says, of that the first number, else with the last
        number of the text; with all of what is said or of the text if there is none in it and it has at most 100
        characters.
    """
    text = text[-MAX_TEXT_CHARS:]
    marked = marked_answer(text)
    if marked is not None or strict:
        return marked
    rest = behind_reasoning(text)
    return None if rest is None else _unmarked(_folded(rest))[0]


def _normal(text: str) -> str:
    return undivided(normalize_answer(text))


def _folded(text: str) -> str:
    """A text without marks as its answer is looked for in it."""
    return strip_emphasis(fold_characters(text)).strip()


def _unmarked(text: str) -> tuple[str | None, list[str]]:
    """The answer of a text without marks as it is shown, and what of the text may be it."""
    said = said_answer(text)
    number = last_number(text) if said is None else first_number(said)
    found = []
    if said is not None:
        found = _readings(said)
    elif has_prose(text):  # otherwise it is one expression, and no part of it the answer
        clause = last_clause(text)
        found = [*mathematics(text)[-1:], *_stated(text), *clause]
        # Of "they are 3, 4" no number is the answer.
        found += [number.text] if number is not None and all(map(first_number, clause)) else []
    # Numerals in kanji are parts of many names.
    if number is not None and (_DIGIT.search(number.text) or whole_number(said or text)):
        return number.text, found
    stated = _COPULA.sub("", text if said is None else said)
    return (stated if 0 < len(stated) <= MAX_BARE_CHARS else None), found


def candidate(text: str) -> str | None:
    """The answer that a text gives its vote to.

    Args:
        text: what a model wrote.

    Returns:
        What is marked or said to be the answer, else all of a short text ("7 remainder 3" is not 3), else the last
        number of a long one; None if there is nothing, or the text was cut off inside of its reasoning.
    """
    text = text[-MAX_TEXT_CHARS:]
    marked = marked_answer(text)
    if marked is not None:
        return said_answer(marked) or marked
    rest = behind_reasoning(text)
    if rest is None:
        return None
    rest = _folded(rest)
    given = said_answer(rest) or (rest if len(rest) <= MAX_BARE_CHARS else extract_answer(text, strict=False))
    return given or None


def plain_spelling(answer: str) -> str:
    """The shortest way to spell an answer that says the same: 東京 of 「東京（とうきょう）」です.

    Args:
        answer: an extracted answer.

    Returns:
        It, normalised; "" if nothing is left of it.
    """
    return min(_spellings(answer), key=len)


def answers_match(predicted: str | None, accepted: Sequence[str]) -> bool:
    """Whether an answer equals one of the accepted ones: in numeric value where that is a number, else in spelling.

    Args:
        predicted: the answer; None, an empty one and one of more than 1,000 characters never match.
        accepted: what counts as correct, as published: see `accepted_forms` for notes and readings in them.

    Returns:
        True if one matches. Of an answer to a number the first number counts, whatever unit or words stand beside it
        ("27 miles", 答えは27個です; "3 boxes of 12" is 3), and a part of an expression never does. Numbers are compared
        exactly, as fractions, but for accepted ones with six decimals or more; nothing is evaluated. Otherwise case,
        quotation marks, a copula (東京です) and a remark in brackets, 東京（とうきょう）, do not count, and an option
        is told by its letter: "(B) Paris" and "Option B" are B.
    """
    if predicted is None or len(predicted) > MAX_ANSWER_CHARS:
        return False
    golds = [form for answer in accepted for form in _gold(answer)]
    given = _normal(predicted)
    if given and any(given in form.spellings for form in golds):
        return True
    numbers = [form for form in golds if form.number is not None]
    first = first_number(predicted) if numbers else None
    if first is not None and any(_is_number(first, form) for form in numbers):
        return True
    spelled = set(_spellings(predicted)) if len(numbers) < len(golds) else set()
    if spelled and (option := option_of(fold_characters(plain(predicted)), dotted=True)):
        spelled.add(option[0])
    return any(not spelled.isdisjoint(form.spellings) for form in golds if form.number is None)


def grade(generated: str, accepted: Sequence[str], match: Match = answers_match) -> Grade:
    """Grade a generated answer.

    Args:
        generated: what the model wrote after its reasoning, or all of it.
        accepted: what counts as correct.
        match: whether an answer equals an accepted one: `answers_match` for numbers and texts, `MathVerifier.equal`
            for mathematics.

    Returns:
        The strict and the lenient verdict. Where an answer is marked they are the same: what stands in the mark is
        right or wrong. A bare answer without marks is strict if it is all there is.
    """
    text = generated[-MAX_TEXT_CHARS:]
    marked = marked_answer(text)
    if marked is not None:
        right = any(match(reading, accepted) for reading in _readings(marked))
        return Grade(right, right, marked)
    rest = behind_reasoning(text)
    if rest is None:
        return Grade(False, False, None)
    whole = _folded(rest)
    extracted, found = _unmarked(whole)
    if _is_answer_alone(whole, accepted) and any(match(reading, accepted) for reading in _with_copula(whole)):
        return Grade(True, True, generated.strip())
    return Grade(False, any(match(reading, accepted) for reading in found), extracted)


def _readings(answer: str) -> list[str]:
    """An answer as it stands; of a sentence also what it says the answer is, its mathematics and its only number."""
    readings = _with_copula(answer)
    if has_prose(answer):
        said = said_answer(_folded(answer))
        number = first_number(answer) if len(quantities(plain(answer[:MAX_ANSWER_CHARS]))) == 1 else None
        readings += [] if said is None else [said]
        readings += _stated(answer)
        readings += mathematics(answer)[:1]
        readings += [] if number is None else [number.text]
    return readings


def _with_copula(answer: str) -> list[str]:
    """An answer, and what a copula behind it states: 2√3 of 2√3です."""
    stated = _COPULA.sub("", answer.strip())
    return [answer] if stated == answer.strip() else [answer, stated]


def _is_answer_alone(text: str, accepted: Sequence[str]) -> bool:
    """Whether a text says nothing but an answer: an accepted one, a number with its unit, an expression, words."""
    if not text or len(text) > MAX_ANSWER_CHARS:
        return False
    normal = _normal(text)
    if any(normal in form.spellings for answer in accepted for form in _gold(answer)):
        return True
    return not (_DIGIT.search(text) and has_prose(text)) or whole_number(text) is not None


@dataclass(frozen=True)
class _Gold:
    """One form of an accepted answer: its spellings, and the number it is, or None."""

    spellings: frozenset[str]
    number: Number | None
    tolerance: Fraction


@lru_cache(maxsize=4096)
def _gold(answer: str) -> tuple[_Gold, ...]:
    forms = []
    for form in accepted_forms(answer):
        number = whole_number(form) if len(form) <= MAX_ANSWER_CHARS else None
        tolerance = float_tolerance(form, number)
        normal = _normal(form)
        spelled = {normal, _normal(plain(form)), _CALLED_OUT.sub("", normal)}
        spelled |= {_ARTICLE.sub("", normal, count=1)} if _ARTICLE.match(normal) else set()
        spelled |= {_normal(part) for part in option_of(fold_characters(form)) or ()}
        forms.append(_Gold(frozenset(spelled - {""}), number, tolerance))
    return tuple(forms)


def float_tolerance(accepted: str, number: Number | None) -> Fraction:
    """How far from an accepted number an answer may be.

    Args:
        accepted: the number as published.
        number: the number.

    Returns:
        0 but for numbers with six decimals or more, which somebody computed in floating point.
    """
    decimals = _DECIMALS.search(accepted)
    if number is None or decimals is None or len(decimals[1]) < LEAST_FLOAT_DECIMALS:
        return Fraction(0)
    return min(FLOAT_TOLERANCE, abs(number.values[0]) / 100)


def _is_number(given: Number, gold: _Gold) -> bool:
    assert gold.number is not None
    unit, rest = gold.number.rest, _COPULA.sub("", given.rest).strip(" .。!").casefold()
    # A unit of the accepted answer may be left out, but is not another one: 3月 is not 3日.
    if unit and rest and not rest.startswith(unit.removesuffix("s")):
        return False
    return any(
        one == other or abs(one - other) < gold.tolerance for one in given.values for other in gold.number.values
    )


def _stated(text: str) -> list[str]:
    """The first of several sentences if it is a Japanese statement: 東京です of 東京です。首都です。"""
    first, stop, _ = text.partition("。")
    return [first] if stop and _COPULA.search(first) else []


def _spellings(answer: str) -> Iterator[str]:
    """How a text answer may be spelled: without a copula, a remark in brackets, an article; as its option's letter."""
    text = plain(answer).strip()
    stated = _COPULA.sub("", text)
    inner = stated[1:-1] if stated[:1] == "【" and stated[-1:] == "】" else stated
    remark = _REMARK.fullmatch(stated)
    for spelled in {text, stated, inner, stated if remark is None else remark[1]}:
        normal = _CALLED_OUT.sub("", _normal(spelled))
        yield normal
        yield _ARTICLE.sub("", normal, count=1) if _ARTICLE.match(normal) else normal
    if option := option_of(fold_characters(stated)):
        yield option[0]
