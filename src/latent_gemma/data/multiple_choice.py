"""Questions with options, as Logic-LM (ProntoQA, ProofWriter, FOLIO, LogicalDeduction, AR-LSAT) and MMLU have them."""

import re
from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import list_of, text_of
from latent_gemma.errors import DataError

_LETTERS = "ABCDEFGHIJ"
_MARK = re.compile(r"\(?[A-J][).:]\s*(?=\S)")


def lettered_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row: context, question, options ["A) True", "B) False"], answer "A", explanation (the proof's steps).

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer: the option's text, with its letter accepted too. Options that the
        question does not name stand below it.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the options.

    Source: Pan et al. 2023 (arXiv 2305.12295); ProntoQA is Saparov and He 2023 (arXiv 2210.01240).
    """
    letter = text_of(row, "answer", where)
    listed = list_of(row, "options", where)
    options = {mark.strip(): text.strip() for mark, _, text in (option.partition(")") for option in listed)}
    if not options.get(letter):
        raise DataError(f"{where}, column 'answer': expected one of the options' letters, found {letter[:40]!r}")
    asked = text_of(row, "question", where)
    if not all(text.casefold() in asked.casefold() for text in options.values()):
        asked = "\n".join([asked, *listed])
    return {
        "question": f"{text_of(row, 'context', where)} {asked}",
        "steps": list_of(row, "explanation", where),
        "answer": options[letter],
        "accepted": [letter],
    }


def choices_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MMLU: question, choices ["..", ".."], answer 2, which counts from 0, or "C"; MMLU-Pro: options.

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, with the choices lettered below it, and answer: the choice's text, its letter accepted.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the choices.

    Source: Hendrycks et al. 2021 (arXiv 2009.03300); Wang et al. 2024 (arXiv 2406.01574).
    """
    listed, given = list_of(row, "choices" if "choices" in row else "options", where), text_of(row, "answer", where)
    letters = _LETTERS[: len(listed)]
    letter = letters[int(given)] if given.isdecimal() and int(given) < len(letters) else given
    if len(listed) > len(_LETTERS) or letter not in tuple(letters):
        raise DataError(f"{where}, column 'answer': expected the number or letter of a choice, found {given[:40]!r}")
    # Some have their letters already.
    choices = [_MARK.sub("", choice) for choice in listed] if all(map(_MARK.match, listed)) else listed
    marked = [f"{mark}) {choice}" for mark, choice in zip(letters, choices, strict=True)]
    return {
        "question": "\n".join([text_of(row, "question", where), *marked]),
        "answer": choices[letters.index(letter)],
        "accepted": [letter],
    }
