"""SVAMP: word problems of one operation, told so that shallow reading fails; and the CSV files beside it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from latent_gemma.data.values import annotated, text_of, whole_numbers
from latent_gemma.errors import DataError

_NUMBERED = re.compile(r"number[0-9]{1,3}")


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


def numbered_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of SVAMP's CSV files, which hold MAWPS, ASDiv and SVAMP with numbers taken out of the text.

    Args:
        row: Question "ann has number0 nuts and eats number1 . how many are left ?", Numbers "9 4", Equation
            "- number0 number1" (signs first), Answer "5.0"; and Body and Ques or Ques_Statement, its two parts.
        where: file and line, for messages.

    Returns:
        The row as question, steps and answer, the numbers in their places again; the equation is the one step.

    Raises:
        DataError: naming the column that is missing or wrong, or a row whose question was taken out (those of the
            folders ending in `_without_questions`, made to show what models answer without one).
    """
    numbers = [whole_numbers(number) for number in text_of(row, "Numbers", where).split()]
    question, answer = text_of(row, "Question", where), whole_numbers(text_of(row, "Answer", where))
    asked = row.get("Ques") or row.get("Ques_Statement")
    if asked and str(asked).strip() not in question and question == str(row.get("Body")).strip():
        raise DataError(
            f"{where}, column 'Question': expected a question, found the story alone",
            "take the folder without _without_questions in its name",
        )
    worked = _infix(text_of(row, "Equation", where).split(), numbers, where)
    return {
        "question": _NUMBERED.sub(lambda match: _value(match[0], numbers, where), question),
        "steps": [annotated(f"{worked}={answer}")],
        "answer": answer,
    }


def _value(name: str, numbers: Sequence[str], where: str) -> str:
    """The number that "number2" stands for."""
    index = int(name.removeprefix("number"))
    if index >= len(numbers):
        raise DataError(f"{where}, column 'Numbers': expected a value of {name}, found {len(numbers)} numbers")
    return numbers[index]


def _infix(signs_first: Sequence[str], numbers: Sequence[str], where: str) -> str:
    """ "- number0 + number1 2.0" as "(9-(4+2))"."""
    stack: list[str] = []
    for token in reversed(signs_first):
        if token in ("+", "-", "*", "/") and len(stack) > 1:
            stack.append(f"({stack.pop()}{token}{stack.pop()})")
        elif _NUMBERED.fullmatch(token):
            stack.append(_value(token, numbers, where))
        else:
            stack.append(whole_numbers(token))
    if len(stack) != 1 or stack[0] in "+-*/":
        found = " ".join(signs_first)
        raise DataError(f"{where}, column 'Equation': expected signs before their numbers, found {found[:40]!r}")
    return stack[0]
