"""Japanese question answering: JEMHopQA, NIILC and the AI王 quiz; golds are taken apart into what they accept."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from latent_gemma.data.values import answers_of, found, text_of, written
from latent_gemma.errors import DataError
from latent_gemma.text.golds import accepted_forms, noted_answers
from latent_gemma.text.language import detect_language, translation_target

_YES_NO = {"YES": ["はい"], "NO": ["いいえ"]}
#: What readings and notes stand in; a sentence outside of them is no gold as quizzes write it.
_REMARK = re.compile(r"※.*|（[^（）]*）|\([^()]*\)|［[^［］]*］|\[[^\[\]]*\]|【[^【】]*】", re.DOTALL)


def _taken_apart(golds: Iterable[str]) -> tuple[str, list[str]]:
    """The plain answer, which is learnt, and everything else that golds accept."""
    forms = [[gold] if "。" in _REMARK.sub("", gold) else accepted_forms(gold) for gold in golds]
    answer, *others = dict.fromkeys(form for group in forms for form in group)
    return answer, others


def instruction_gold(question: str, output: str) -> tuple[str, list[str]]:
    """What the output of a row of llm-japanese-dataset accepts, whose quiz part has golds as quizzes write them.

    Args:
        question: the instruction; with an input it is no quiz row.
        output: as published.

    Returns:
        The answer and the further accepted ones; the output as it is where it is a sentence, or the row asks for a
        translation or no question at all: there what stands in brackets is part of the text.
    """
    asks = detect_language(question) == "ja" and re.search("[?？]", question) and translation_target(question) is None
    if not asks or "\n" in output:
        return output, []
    return _taken_apart([output])


def jemhopqa_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of JEMHopQA: question, answer, derivations [[subject, relation, [objects]], ..].

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer: each derivation is a sentence, and はい counts for YES, いいえ for NO.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Ishii et al. 2023, JEMHopQA (corpus version 1.2).
    """
    answer, accepted = _taken_apart([text_of(row, "answer", where)])
    return {
        "question": text_of(row, "question", where),
        "steps": _derivations(row["derivations"], where),
        "answer": answer,
        "accepted": _YES_NO.get(answer, accepted),
    }


def _derivations(value: Any, where: str) -> list[str]:
    shape = f"{where}, column 'derivations': expected a list of [subject, relation, [objects]], found"
    if not isinstance(value, list):
        raise DataError(f"{shape} {found(value)}")
    steps = []
    for entry in value:
        if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[2], list):
            raise DataError(f"{shape} another shape in it")
        subject, relation, *objects = (written(part) for part in (entry[0], entry[1], *entry[2]))
        if subject is None or relation is None or not objects or None in objects:
            raise DataError(f"{shape} a part that is no text")
        steps.append(f"{subject}の{relation}は{'、'.join(map(str, objects))}。")
    return steps


def niilc_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a question of NIILC's XML: text and answers, any of which counts as correct.

    Args:
        row: element name -> text, or list of the texts of its children.
        where: file and line, for messages.

    Returns:
        The row as question, answer and accepted answers; empty answer elements are left out.

    Raises:
        DataError: naming what is missing or wrong.
    """
    first, others = answers_of(row, "answers", where)
    answer, accepted = _taken_apart([first, *others])
    return {"question": text_of(row, "text", where), "answer": answer, "accepted": accepted}


def quiz_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of the AI王 quiz: original_question, original_answer, original_additional_info.

    Args:
        row: column name -> value; `answers`, where the file has it, is a list of answers.
        where: file and line, for messages.

    Returns:
        The row as question, answer and accepted answers. Alternatives come from the original answer, with its readings,
        notes and ";;", from `answers`, and from the additional information.

    Raises:
        DataError: naming the column that is missing or wrong.
    """
    golds = [part for part in text_of(row, "original_answer", where).split(";;") if part.strip()]
    if row.get("answers") is not None:
        listed, more = answers_of(row, "answers", where)
        golds += [listed, *more]
    answer, accepted = _taken_apart(golds)
    accepted += noted_answers(written(row.get("original_additional_info")) or "")
    accepted = [other for other in dict.fromkeys(accepted) if other != answer]
    return {"question": text_of(row, "original_question", where), "answer": answer, "accepted": accepted}
