"""GSM8K and its relatives: worked steps, `<<expression=value>>` annotations, `#### answer`."""

import re
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.text.language import detect_language

StepsFormat = Literal["natural", "expression", "result"]
_ANNOTATION = re.compile(r"<<([^<>]*)>>")


def is_gsm8k_answer(text: str) -> bool:
    """Whether an answer field holds worked steps and a final `#### answer` line."""
    return "####" in text


def format_steps(lines: list[str], steps_format: StepsFormat) -> tuple[str, ...]:
    """Steps as sentences, as `<<..>>` expressions, or as their results alone.

    Args:
        lines: the worked lines, with annotations.
        steps_format: how to write them.

    Returns:
        The steps; lines without an annotation have none in the last two forms.
    """
    if steps_format == "natural":
        sentences = (_ANNOTATION.sub("", line).strip() for line in lines)
        return tuple(sentence for sentence in sentences if sentence)
    found = [annotation for line in lines for annotation in _ANNOTATION.findall(line)]
    if steps_format == "expression":
        return tuple(f"<<{annotation}>>" for annotation in found)
    return tuple(annotation.rsplit("=", 1)[-1].strip() for annotation in found)


def parse_gsm8k(question: str, answer: str, steps_format: StepsFormat) -> Example:
    """Read one row.

    Args:
        question: the question.
        answer: worked lines, then `#### answer`.
        steps_format: how to write the steps.

    Returns:
        The example; thousands separators are taken out of the answer.

    Source: Cobbe et al. 2021 (arXiv 2110.14168), the published JSONL files.
    """
    working, _, final = answer.rpartition("####")
    steps = format_steps(working.strip().split("\n"), steps_format)
    return Example(question.strip(), steps, final.strip().replace(",", ""), detect_language(question))


def parse_internalized(line: str, steps_format: StepsFormat) -> Example | None:
    """Read one line `question||<<..>> <<..>> #### answer`, or None if it is not of that form.

    Source: Deng et al. 2024 (arXiv 2405.14838), the published text files. Working without annotations (digit-wise
    multiplication) is kept as one step.
    """
    question, bar, rest = line.partition("||")
    working, hashes, final = rest.rpartition("####")
    if not bar or not hashes or not question.strip() or not final.strip():
        return None
    annotated = format_steps([working], "expression" if steps_format == "natural" else steps_format)
    steps = annotated or ((working.strip(),) if working.strip() else ())
    return Example(question.strip(), steps, final.strip().replace(",", ""), detect_language(question))
