"""Finding the answer in what a model wrote, and comparing it with the accepted ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latent_gemma.text.normalize import normalize_answer, parse_number

#: Longer predictions are never read: an answer of a megabyte is no answer.
MAX_ANSWER_CHARS = 1000
MAX_TEXT_CHARS = 100_000
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_SPOKEN = re.compile(r"(?:answer\s+is|answer\s*[:：]|答えは|答え\s*[:：]|答：)\s*([^\n。]{1,200})", re.IGNORECASE)
_NUMBERS = re.compile(r"[+\-\u2212]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?")


@dataclass(frozen=True)
class Grade:
    """How an answer was graded.

    Args:
        strict: the whole text, or what stands in an answer mark, equals an accepted answer.
        lenient: the answer found by any rule equals an accepted answer.
        extracted: what the lenient rules found; None if nothing.
    """

    strict: bool
    lenient: bool
    extracted: str | None


def _boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for index in range(begin, min(len(text), begin + MAX_ANSWER_CHARS)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            if depth == 0:
                return text[begin:index]
            depth -= 1
    return None


def extract_answer(text: str, strict: bool) -> str | None:
    r"""Find the answer in a text.

    Args:
        text: what a model wrote.
        strict: accept only marked answers: `<answer>..</answer>`, `#### ..`, `\boxed{..}` (the last of each).

    Returns:
        The answer, stripped, or None. Lenient falls back to "answer is ..", to a short text as a whole if it holds no
        number, and to the last number.
    """
    text = text[-MAX_TEXT_CHARS:]
    for found in (_TAG.findall(text), _HASHES.findall(text)):
        if found:
            return found[-1].strip()
    boxed = _boxed(text)
    if boxed is not None or strict:
        return None if boxed is None else boxed.strip()
    spoken = _SPOKEN.findall(text)
    candidate = spoken[-1] if spoken else text
    if parse_number(normalize_answer(candidate)) is not None:
        return candidate.strip()
    numbers = _NUMBERS.findall(candidate)
    if numbers:
        return numbers[-1].rstrip(",")
    return candidate.strip() if candidate.strip() and len(candidate) <= 200 else None


def answers_match(predicted: str | None, accepted: Sequence[str]) -> bool:
    """Whether a prediction equals one of the accepted answers, in spelling or in numeric value.

    Args:
        predicted: the prediction; None never matches.
        accepted: what counts as correct.

    Returns:
        True if one matches. Numbers are compared exactly as fractions; nothing is evaluated.
    """
    if predicted is None or len(predicted) > MAX_ANSWER_CHARS:
        return False
    given = normalize_answer(predicted)
    if not given:
        return False
    value = parse_number(given)
    for answer in accepted:
        wanted = normalize_answer(answer)
        if given == wanted:
            return True
        if value is not None and value == parse_number(wanted):
            return True
    return False


def grade(generated: str, accepted: Sequence[str]) -> Grade:
    """Grade a generated answer.

    Args:
        generated: what the model wrote after its reasoning.
        accepted: what counts as correct.

    Returns:
        The strict and the lenient verdict. A bare answer without marks is strict if it is all there is.
    """
    extracted = extract_answer(generated, strict=False)
    strict = answers_match(generated, accepted) or answers_match(extract_answer(generated, strict=True), accepted)
    return Grade(strict, strict or answers_match(extracted, accepted) or answers_match(generated, accepted), extracted)
