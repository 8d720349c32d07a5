"""What MathOctopus publishes: MSVAMP, MGSM as JSON Lines, and MGSM8KInstruct, GSM8K's train split in ten languages."""

import re
from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import number_of, text_of
from latent_gemma.errors import DataError

_TEMPLATE = re.compile(r"Below is an instruction.*### Instruction:\n(.*?)\n+### Response:\s*", re.DOTALL)


def msvamp_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MSVAMP: m_query and response; beside them stand the question in English and its equation.

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question and answer.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Chen et al. 2023 (arXiv 2310.20246).
    """
    return {"question": text_of(row, "m_query", where), "answer": number_of(row, "response", where)}


def mgsm_json_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MGSM as MathOctopus has it (`mgsm_Japanese.json`), or of GSM8K as MetaMath has it: query, response.

    Args:
        row: column name -> value.
        where: file and line, for messages.

    Returns:
        The row as question and answer.

    Raises:
        DataError: naming the column that is missing or wrong; without `#### answer` a response has to be a number.
    """
    worked = "####" in str(row["response"])
    read = text_of if worked else number_of
    return {"question": text_of(row, "query", where), "answer": read(row, "response", where)}


def instruct_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MGSM8KInstruct, or of any preference data: prompt and chosen.

    Args:
        row: column name -> value; what was rejected is not read.
        where: file and line, for messages.

    Returns:
        The row as question and answer. Of a prompt in MathOctopus' template the instruction is the question, and its
        answer is GSM8K's: worked lines, then `#### answer`.

    Raises:
        DataError: naming the column that is missing or wrong.
    """
    prompt, chosen = text_of(row, "prompt", where), text_of(row, "chosen", where)
    filled = _TEMPLATE.fullmatch(prompt)
    if filled and "####" not in chosen:
        raise DataError(f"{where}, column 'chosen': expected #### answer at its end, found {chosen[-40:]!r}")
    return {"question": filled[1].strip() if filled else prompt, "answer": chosen}
