"""ASDiv: word problems of many kinds; answers with their units in parentheses."""

import re
from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import annotated, text_of

_UNIT = re.compile(r"\s*\(([^()]*)\)")


def asdiv_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a problem of `ASDiv.xml`: Body, Question, Answer "9 (apples)", Formula "7+2=9".

    Args:
        row: element or column name -> text; the names may be in lower case, as on the hub.
        where: file and line, for messages.

    Returns:
        The row as question, steps and answer: "9", with "9 apples" accepted too. The formula is the one step.

    Raises:
        DataError: naming what is missing or wrong.

    Source: Miao et al. 2020 (arXiv 2106.15772).
    """
    body, question, answer, formula = (
        name if name in row else name.lower() for name in ("Body", "Question", "Answer", "Formula")
    )
    full = text_of(row, answer, where)
    bare = _UNIT.sub("", full).strip() or full
    spoken = _UNIT.sub(r" \1", full).strip()
    return {
        "question": f"{text_of(row, body, where)} {text_of(row, question, where)}",
        "steps": [annotated(text_of(row, formula, where))] if row.get(formula) else [],
        "answer": bare,
        "accepted": [spoken] if spoken != bare else [],
    }
