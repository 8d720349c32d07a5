"""Japanese question answering: JEMHopQA, NIILC and the AI王 quiz."""

import re
from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import answers_of, found, text_of, written
from latent_gemma.errors import DataError

_YES_NO = {"YES": ["はい"], "NO": ["いいえ"]}
_QUOTED = re.compile(r"[「『]([^「」『』]+)[」』]")
#: Words around an alternative answer that are no part of it, as in "別解：..", "※..も可", "..でも正解".
_AROUND = re.compile(r"^※\s*|^(?:別解|許容|正解)\s*[:：]\s*|\s*(?:で)?も(?:可|正解|OK)(?:とする)?。?$")


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
    answer = text_of(row, "answer", where)
    return {
        "question": text_of(row, "question", where),
        "steps": _derivations(row["derivations"], where),
        "answer": answer,
        "accepted": _YES_NO.get(answer, []),
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
    answer, accepted = answers_of(row, "answers", where)
    return {"question": text_of(row, "text", where), "answer": answer, "accepted": accepted}


def quiz_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of the AI王 quiz: original_question, original_answer, original_additional_info.

    Args:
        row: column name -> value; `answers`, where the file has it, is a list of answers.
        where: file and line, for messages.

    Returns:
        The row as question, answer and accepted answers. Alternatives come from `answers`, from an original answer
        with ";;" in it, and from the additional information, where quoted words, or else the parts between commas,
        count as alternatives.

    Raises:
        DataError: naming the column that is missing or wrong.
    """
    first, *others = [part.strip() for part in text_of(row, "original_answer", where).split(";;")]
    if row.get("answers") is not None:
        listed, more = answers_of(row, "answers", where)
        others += [listed, *more]
    others += _alternatives(written(row.get("original_additional_info")) or "")
    accepted = [other for other in dict.fromkeys(others) if other and other != first]
    return {"question": text_of(row, "original_question", where), "answer": first, "accepted": accepted}


def _alternatives(info: str) -> list[str]:
    parts = _QUOTED.findall(info) or re.split(r";;|[、，,;；/／\n]", info)
    return [part for part in (_AROUND.sub("", part.strip()) for part in parts) if part]
