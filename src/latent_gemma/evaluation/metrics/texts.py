"""Predictions and references in the form the metrics can take."""

from collections.abc import Sequence

from latent_gemma.errors import DataError

#: Of longer texts the beginning is measured: a megabyte takes MeCab half a minute, then fails.
MAX_CHARS = 10_000

#: One text an item, or several of which each counts as correct.
References = Sequence[str | Sequence[str]]


def as_lists(predictions: Sequence[str], references: References) -> list[list[str]]:
    """Bring references to one list an item.

    Args:
        predictions: one text an item.
        references: one text an item, or several.

    Returns:
        The references, none of the lists empty.

    Raises:
        DataError: if there is no item, an item has no reference, or the numbers of items differ.
    """
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references", "give one of each an item")
    if not predictions:
        raise DataError("there is no prediction to measure", "give at least one item")
    lists = [[given] if isinstance(given, str) else list(given) for given in references]
    for number, given in enumerate(lists, start=1):
        if not given:
            raise DataError(f"item {number} has no reference", "leave the item out or give its answer")
    return lists


def tame(text: str) -> str:
    """Make a text safe for libraries written in C.

    Args:
        text: any text.

    Returns:
        Its first 10,000 characters, halves of surrogate pairs replaced by "?".
    """
    return text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
