"""MGSM: 250 problems of GSM8K's test split in eleven languages."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.data.values import list_of, text_of
from latent_gemma.errors import DataError
from latent_gemma.text.normalize import normalize_answer, parse_number, strip_thousands

#: As MathOctopus names its files -> as everybody else does.
_LANGUAGES = {
    "bengali": "bn", "german": "de", "english": "en", "spanish": "es", "french": "fr", "japanese": "ja",
    "russian": "ru", "swahili": "sw", "telugu": "te", "thai": "th", "chinese": "zh",
}  # fmt: skip
MGSM_LANGUAGES = tuple(_LANGUAGES.values())
_NAME = re.compile(rf"(?:mgsm_(?:[a-z]{{2}}|{'|'.join(_LANGUAGES)})|test_(?:{'|'.join(_LANGUAGES)}))\.[a-z]+")


def file_language(path: Path) -> str | None:
    """The language that a published file's name says: "ja" for `mgsm_ja.tsv`, `mgsm_Japanese.json` and MSVAMP's
    `test_Japanese.json`; None for any other file."""
    name = path.name.lower()
    said = name.partition("_")[2].partition(".")[0]
    return _LANGUAGES.get(said, said) if _NAME.fullmatch(name) else None


def is_mgsm(path: Path) -> bool:
    """Whether a file's name says that it is one of MGSM's."""
    return path.name.lower().startswith("mgsm_") and file_language(path) is not None


def mgsm_example(example: Example, language: str, where: str) -> Example:
    """Give an example of a published file its language, and its number without thousands separators.

    Args:
        example: as any table's row is read.
        language: of the file.
        where: file and line, for messages.

    Returns:
        The example.

    Raises:
        DataError: if the answer is no number.
    """
    answer = strip_thousands(example.answer)
    if parse_number(normalize_answer(answer)) is None:
        raise DataError(f"{where}, column 'answer': expected a number, found {answer[:40]!r}")
    return replace(example, answer=answer, language=language)


def mgsm_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of the hub's copy, which has the number in a column of its own beside worked steps or null.

    Args:
        row: column name -> value.
        where: data set and row, for messages.

    Returns:
        The row as question, steps and answer.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Shi et al. 2022 (arXiv 2210.03057).
    """
    return {
        "question": text_of(row, "question", where),
        "steps": list_of(row, "answer", where),
        "answer": strip_thousands(text_of(row, "answer_number", where)),
    }
