r"""Answers that come with their working: behind `<think>`, before a `\boxed{}` or a last "The answer is 7"."""

import re

from latent_gemma.text.boxed import last_boxes
from latent_gemma.text.marks import behind_reasoning, closing_answer, has_prose
from latent_gemma.text.normalize import normalize_answer, parse_number

_SKY = re.compile(r"<\|(begin|end)_of_(thought|solution)\|>")
_THINK = re.compile(r"</?(?:think|thinking|thought)>", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\b")


def _plain(mark: re.Match[str]) -> str:
    """OpenThoughts' marks as those of R1."""
    return "" if mark[2] == "solution" else "<think>" if mark[1] == "begin" else "</think>"


def worked(text: str) -> tuple[list[str], str]:
    r"""Part what a model or a person wrote into its working and its answer.

    Args:
        text: the whole of it, not empty.

    Returns:
        The lines of its working, and its answer. The working is what stands in `<think>..</think>`, else what comes
        before a last sentence that says a number to be the answer, else all of a text with a `\boxed{}`; the answer is
        what the box or that sentence holds, else all that stands behind the thinking. A text that is nothing but an
        answer comes back as it is, without working.
    """
    marked = _SKY.sub(_plain, text)
    rest = behind_reasoning(marked)
    if rest is None or not rest.strip():
        return [], text
    thought = _THINK.sub("", marked.removesuffix(rest)) if _THINK.search(marked) else ""
    boxed, said = last_boxes(rest), closing_answer(rest)
    if boxed is not None and (thought or has_prose(_BOXED.split(rest)[0])):
        working, answer = rest, boxed
    elif said is not None and (said[0] or thought) and parse_number(normalize_answer(said[1])) is not None:
        working, answer = said
    elif thought:
        working, answer = "", rest.strip()
    else:
        return [], text
    return [line.strip() for line in (thought.strip() or working).split("\n") if line.strip()], answer
