"""Whether answers are written in the language they should be in."""

from collections.abc import Sequence
from itertools import zip_longest

from latent_gemma.errors import DataError
from latent_gemma.text.language import Language, detect_language
from latent_gemma.text.normalize import normalize_answer


def in_language(text: str, language: Language, golds: Sequence[str] = ()) -> bool:
    """Whether a text can stand as an answer in a language.

    Args:
        text: the answer.
        language: the language wanted.
        golds: the accepted answers, the data set's own first: its language is right too, so that a Japanese question
            may be answered with DNA or NHK where its answer is in Latin letters; and so is whatever equals one.

    Returns:
        True if it is detected as that language or the own answer's, equals an accepted answer, or holds no letter ("42"
        is right in all); False if it is empty.
    """
    if not any(map(str.isalpha, text)):
        return bool(text.strip())
    # An answer of digits says nothing of a language.
    own = {detect_language(gold) for gold in golds[:1] if any(map(str.isalpha, gold))}
    return detect_language(text) in {language, *own} or normalize_answer(text) in map(normalize_answer, golds)


def language_share(predictions: Sequence[str], language: Language, golds: Sequence[Sequence[str]] = ()) -> float:
    """Share of answers in the right language.

    Args:
        predictions: the answers.
        language: the language wanted.
        golds: the accepted answers of each, where their language counts as right too; none otherwise.

    Returns:
        The share, 0 to 1.

    Raises:
        DataError: if there is no answer.
    """
    if not predictions:
        raise DataError("there is no prediction to measure", "give at least one item")
    pairs = zip_longest(predictions, golds[: len(predictions)], fillvalue=())
    return sum(in_language(str(text), language, own) for text, own in pairs) / len(predictions)
