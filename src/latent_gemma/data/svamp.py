"""SVAMP and its translations: word problems of one operation, told so that shallow reading fails."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import annotated, text_of, whole_numbers


def svamp_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of `SVAMP.json`: Body, Question, Equation "( 8.0 - 3.0 )", Answer 5.0.

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question, steps and answer; the equation is the one step.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Patel et al. 2021 (arXiv 2103.07191).
    """
    question = f"{text_of(row, 'Body', where)} {text_of(row, 'Question', where)}"
    answer = whole_numbers(text_of(row, "Answer", where))
    step = annotated(f"{text_of(row, 'Equation', where)}={answer}")
    return {"question": question, "steps": [step], "answer": answer}


def msvamp_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MSVAMP's JSON Lines: m_query and response.

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question and answer.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Chen et al. 2023 (arXiv 2310.20246).
    """
    answer = whole_numbers(text_of(row, "response", where))
    return {"question": text_of(row, "m_query", where), "answer": answer}
