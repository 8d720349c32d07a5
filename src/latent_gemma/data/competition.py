r"""MATH: competition problems, the answer in the last `\boxed{}` of a worked solution."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import text_of
from latent_gemma.errors import DataError
from latent_gemma.text.boxed import last_boxed


def math_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    r"""Read a row of MATH or MATH-500: problem, solution, and answer where the file has it.

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question, steps and answer; the lines of the solution are the steps.

    Raises:
        DataError: naming the column that is missing or wrong, or a solution without a boxed answer.

    Source: Hendrycks et al. 2021 (arXiv 2103.03874); MATH-500 after Lightman et al. 2023 (arXiv 2305.20050).
    """
    question = text_of(row, "problem", where)
    if row.get("answer") is not None:
        return {"question": question, "steps": row["solution"], "answer": text_of(row, "answer", where)}
    solution = text_of(row, "solution", where)
    answer = last_boxed(solution)
    if answer is None:
        raise DataError(f"{where}, column 'solution': expected an answer in \\boxed{{..}}, found none")
    return {"question": question, "steps": solution, "answer": answer}
