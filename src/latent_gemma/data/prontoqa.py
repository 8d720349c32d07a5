"""ProntoQA in the form of Logic-LM: a context, a question about it, lettered options."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import list_of, text_of
from latent_gemma.errors import DataError


def prontoqa_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row: context, question, options ["A) True", "B) False"], answer "A", explanation (the proof's steps).

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer: the option's text, with its letter accepted too.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the options.

    Source: Saparov and He 2023 (arXiv 2210.01240), as Pan et al. 2023 (arXiv 2305.12295) publish it.
    """
    letter = text_of(row, "answer", where)
    marked = (option.partition(")") for option in list_of(row, "options", where))
    options = {mark.strip(): text.strip() for mark, _, text in marked}
    if not options.get(letter):
        raise DataError(f"{where}, column 'answer': expected one of the options' letters, found {letter[:40]!r}")
    return {
        "question": f"{text_of(row, 'context', where)} {text_of(row, 'question', where)}",
        "steps": list_of(row, "explanation", where),
        "answer": options[letter],
        "accepted": [letter],
    }
