"""Whether answers are written in the language they should be in."""

from collections.abc import Sequence

from latent_gemma.errors import DataError
from latent_gemma.text.language import Language, detect_language


def in_language(text: str, language: Language) -> bool:
    """Whether a text can stand as an answer in a language.

    Args:
        text: the answer.
        language: the language wanted.

    Returns:
        True if it is detected as that language, or holds no letter ("42" is right in both); False if it is empty.
    """
    if not any(map(str.isalpha, text)):
        return bool(text.strip())
    return detect_language(text) == language


def language_share(predictions: Sequence[str], language: Language) -> float:
    """Share of answers in the right language.

    Args:
        predictions: the answers.
        language: the language wanted.

    Returns:
        The share, 0 to 1.

    Raises:
        DataError: if there is no answer.
    """
    if not predictions:
        raise DataError("there is no prediction to measure", "give at least one item")
    return sum(in_language(text, language) for text in predictions) / len(predictions)
