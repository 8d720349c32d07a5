r"""Competition problems: MATH, the answer in the last `\boxed{}` of a worked solution; OlympiadBench."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import answers_of, list_of, on_its_text, text_of
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


def olympiad_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of OlympiadBench: question, context, solution [".."] and final_answer [".."].

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question, steps (the lines of the first solution) and answer (the first; several that belong together
        stand in one text).

    Raises:
        DataError: naming the column that is missing or wrong; proofs have no answer.

    Source: He et al. 2024 (arXiv 2402.14008).
    """
    answer, _ = answers_of(row, "final_answer", where)
    steps = [line for solution in list_of(row, "solution", where)[:1] for line in solution.split("\n")]
    return {"question": on_its_text(row, where), "steps": steps, "answer": answer}
