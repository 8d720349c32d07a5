"""GSM8K and its relatives: worked steps, `<<expression=value>>` annotations, `#### answer`."""

import re
from collections.abc import Sequence
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.data.multiplication import is_multiplication, working_steps
from latent_gemma.text.language import detect_language
from latent_gemma.text.normalize import strip_thousands

StepsFormat = Literal["natural", "expression", "result"]
_ANNOTATION = re.compile(r"<<([^<>]*)>>")


def format_steps(lines: Sequence[str], steps_format: StepsFormat) -> tuple[str, ...]:
    """Write worked lines as sentences, as `<<..>>` expressions, or as their results alone.

    Args:
        lines: the worked lines, with annotations.
        steps_format: "natural" takes the annotations out (a line that is nothing else stays), "expression" keeps
            nothing but them, "result" only what stands behind their last "=".

    Returns:
        The steps; for "expression" and "result" one per annotation, and none from a line without.
    """
    if steps_format == "natural":
        sentences = (_ANNOTATION.sub("", line).strip() or line.strip() for line in lines)
        return tuple(sentence for sentence in sentences if sentence)
    found = [annotation for line in lines for annotation in _ANNOTATION.findall(line)]
    if steps_format == "expression":
        return tuple(f"<<{annotation}>>" for annotation in found)
    return tuple(annotation.rpartition("=")[2].strip() for annotation in found)


def annotations_alone(line: str) -> list[str]:
    """The annotations of a line that holds nothing else, such as "<<2*3=6>> <<6+1=7>>"; of any other line none."""
    return [] if _ANNOTATION.sub("", line).strip() else list(format_steps([line], "expression"))


def parse_gsm8k(question: str, answer: str, steps_format: StepsFormat) -> Example | None:
    """Read one row of the published JSON Lines.

    Args:
        question: the question.
        answer: worked lines, then `#### answer`.
        steps_format: how to write the steps.

    Returns:
        The example, its answer without thousands separators; None if there is no answer behind ####.

    Source: Cobbe et al. 2021 (arXiv 2110.14168).
    """
    working, hashes, final = answer.rpartition("####")
    if not hashes or not final.strip():
        return None
    steps = format_steps(working.split("\n"), steps_format)
    return Example(question.strip(), steps, strip_thousands(final.strip()), detect_language(question))


def parse_internalized(line: str, steps_format: StepsFormat) -> Example | None:
    """Read one line `question||<<..>> <<..>> #### answer` of the published text files.

    Args:
        line: the line.
        steps_format: how to write the steps; "natural" leaves them as they are.

    Returns:
        The example, or None if the line is not of that form. Working without annotations is one step in every
        format, in digit-wise multiplication one step a partial product.

    Source: Deng et al. 2024 (arXiv 2405.14838).
    """
    question, bar, rest = line.partition("||")
    working, hashes, final = rest.rpartition("####")
    if not bar or not hashes or not question.strip() or not final.strip():
        return None
    question = question.strip()
    annotations = format_steps([working], "expression")
    if annotations:
        steps = format_steps(annotations, steps_format)
    else:
        steps = working_steps(working) if is_multiplication(question) else format_steps([working], "natural")
    return Example(question, steps, strip_thousands(final.strip()), detect_language(question))
