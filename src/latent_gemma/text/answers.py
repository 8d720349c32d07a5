"""Finding the answer in what a model wrote, and comparing it with the accepted ones."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latent_gemma.text.boxed import last_boxed
from latent_gemma.text.normalize import fold_characters, normalize_answer, parse_number

#: Whether a prediction equals one of the accepted answers.
Match = Callable[[str | None, Sequence[str]], bool]

#: Longer predictions never match: a page of text that ends well is no answer.
MAX_ANSWER_CHARS = 1000
#: Only the end of a longer text is searched.
MAX_TEXT_CHARS = 100_000
#: Text without marks and numbers is an answer as a whole up to here.
MAX_BARE_CHARS = 100

# Each tag body stops at the next tag, so a text of unclosed tags is still read in linear time.
_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\s#][^\n]*)")
_SPOKEN = re.compile(
    r"\banswer(?:\s+is\b\s*[:：]?|\s*[:：])|答え(?:は\s*[:：]?|\s*[:：]|(?=\s*[-+]?[0-9]))|答\s*[:：]", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[\n。]|\.(?=\s|$)")
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[+-][$€£¥]?)?"  # a sign, but not the minus of "10-4"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?"
)


@dataclass(frozen=True)
class Grade:
    """How an answer was graded.

    Args:
        strict: the whole text, or what stands in an answer mark, equals an accepted answer.
        lenient: strict, or the answer found by the lenient rules equals an accepted answer.
        extracted: the whole text if that is right, else what the lenient rules found; None if nothing.
    """

    strict: bool
    lenient: bool
    extracted: str | None


def _marked(text: str) -> str | None:
    for pattern in (_TAG, _HASHES):
        found = pattern.findall(text)
        if found:
            return str(found[-1]).strip()
    return last_boxed(text)


def _spoken(text: str) -> str | None:
    """What follows the last "the answer is" or 答えは, up to the end of the sentence."""
    matches = list(_SPOKEN.finditer(text))
    if not matches:
        return None
    said = text[matches[-1].end() :].lstrip(" \t\n*:：")
    return _SENTENCE_END.split(said, maxsplit=1)[0].strip(" \t*").removesuffix("です") or None


def extract_answer(text: str, strict: bool) -> str | None:
    r"""Find the answer in a text.

    Args:
        text: what a model wrote; of more than 100,000 characters the end is searched.
        strict: accept only marked answers: `<answer>..</answer>`, else `#### ..`, else `\boxed{..}`; the last of each.

    Returns:
        The answer, stripped, or None. Lenient goes on, where nothing is marked, with what "answer is .." or 答えは
        says, or the whole text; of that the last number, or all of it if it holds none and has at most 100 characters.
    """
    text = text[-MAX_TEXT_CHARS:]
    marked = _marked(text)
    if marked is not None or strict:
        return marked
    text = fold_characters(text)
    candidate = _spoken(text) or text.strip()
    numbers = _NUMBER.findall(candidate)
    if numbers:
        return str(numbers[-1])
    return candidate if 0 < len(candidate) <= MAX_BARE_CHARS else None


def candidate(text: str) -> str | None:
    """The answer that a text gives its vote to.

    Args:
        text: what a model wrote after its reasoning.

    Returns:
        What is marked or said to be the answer, else all of a short text ("7 remainder 3" is not 3), else the last
        number of a long one; None if there is nothing.
    """
    given = extract_answer(text, strict=True)
    if given is None:
        text = fold_characters(text[-MAX_TEXT_CHARS:]).strip()
        given = _spoken(text) or (text if len(text) <= MAX_BARE_CHARS else extract_answer(text, strict=False))
    return given or None


def answers_match(predicted: str | None, accepted: Sequence[str]) -> bool:
    """Whether a prediction equals one of the accepted answers, in spelling or in numeric value.

    Args:
        predicted: the prediction; None, an empty one and one of more than 1,000 characters never match.
        accepted: what counts as correct.

    Returns:
        True if one matches. Numbers are compared exactly, as fractions; nothing is evaluated.
    """
    if predicted is None or len(predicted) > MAX_ANSWER_CHARS:
        return False
    given = normalize_answer(predicted)
    if not given:
        return False
    value = parse_number(given)
    wanted = [normalize_answer(answer) for answer in accepted]
    return given in wanted or (value is not None and value in map(parse_number, wanted))


def grade(generated: str, accepted: Sequence[str], match: Match = answers_match) -> Grade:
    """Grade a generated answer.

    Args:
        generated: what the model wrote after its reasoning.
        accepted: what counts as correct.
        match: whether a prediction equals an accepted answer; `MathVerifier.equal` compares expressions.

    Returns:
        The strict and the lenient verdict. A bare answer without marks is strict if it is all there is.
    """
    if match(generated, accepted):
        return Grade(strict=True, lenient=True, extracted=generated.strip())
    extracted = extract_answer(generated, strict=False)
    strict = match(extract_answer(generated, strict=True), accepted)
    # "答えは1600年代" is right as said, though the number in it alone is not.
    said = _spoken(fold_characters(generated[-MAX_TEXT_CHARS:]))
    return Grade(strict, strict or match(extracted, accepted) or match(said, accepted), extracted)
