"""MultiArith and its siblings (AddSub, SingleEq) as their authors publish them."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import annotated, answers_of, list_of, text_of, whole_numbers


def multiarith_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of the published JSON: sQuestion, lEquations ["X=(7.0*(8.0-2.0))"], lSolutions [42.0].

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer; each equation is a step.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Roy and Roth 2015 (arXiv 1608.01413).
    """
    solution, others = answers_of(row, "lSolutions", where)
    answer = whole_numbers(solution)
    steps = []
    for equation in list_of(row, "lEquations", where):
        left, _, right = equation.partition("=")
        # "X=..." names the unknown that is asked for; the solution stands in its place.
        worked = right if left.strip().isalpha() else left if right.strip().isalpha() else ""
        steps.append(annotated(f"{worked}={answer}" if worked else equation))
    return {
        "question": text_of(row, "sQuestion", where),
        "steps": steps,
        "answer": answer,
        "accepted": [whole_numbers(other) for other in others],
    }
