"""How close answers come in spelling."""

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.metrics.texts import MAX_CHARS, References, as_lists
from latent_gemma.text.golds import accepted_forms
from latent_gemma.text.normalize import normalize_answer

DEFAULT_THRESHOLD = 80.0


@dataclass(frozen=True)
class FuzzyScore:
    """Closeness in spelling over a set of items.

    Args:
        mean_0_100: mean score of the items.
        share: items at or above the threshold, 0 to 1.
        threshold: the score, 0 to 100, from which an item counts as right.
    """

    mean_0_100: float
    share: float
    threshold: float


def fuzzy_score(predicted: str, accepted: Sequence[str]) -> float:
    """Similarity to the closest accepted answer.

    Args:
        predicted: the prediction; of more than 10,000 characters the beginning is compared.
        accepted: what counts as correct, as published; see `accepted_forms`.

    Returns:
        The best `rapidfuzz.fuzz.ratio` (normalised insertions and deletions) of the normalised texts, 0 to 100; 0 for
        an empty prediction.
    """
    given = normalize_answer(predicted[:MAX_CHARS])
    if not given:
        return 0.0
    forms = (form[:MAX_CHARS] for answer in accepted for form in accepted_forms(answer))
    return max((fuzz.ratio(given, normalize_answer(form)) for form in forms), default=0.0)


def fuzzy(predictions: Sequence[str], references: References, threshold: float = DEFAULT_THRESHOLD) -> FuzzyScore:
    """Mean fuzzy score, and the share of items that are close enough.

    Args:
        predictions: one text an item.
        references: one text an item, or several of which the closest counts.
        threshold: from which score on an item counts as right, 0 to 100.

    Returns:
        Both, with the threshold.

    Raises:
        ConfigError: if the threshold lies outside 0 to 100.
        DataError: as `as_lists`.
    """
    if not 0 <= threshold <= 100:
        raise ConfigError(f"fuzzy threshold {threshold:g} is outside [0, 100]", "give a score such as 80")
    lists = as_lists(predictions, references)
    scores = [fuzzy_score(predicted, accepted) for predicted, accepted in zip(predictions, lists, strict=True)]
    close = sum(score >= threshold for score in scores)
    return FuzzyScore(sum(scores) / len(scores), close / len(scores), threshold)
