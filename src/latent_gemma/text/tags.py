"""`<reasoning>..</reasoning><answer>..</answer>`: writing it, taking it apart, and telling good from broken."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: What an instruction-tuned model is asked for; folded into the user's turn, since Gemma has no system role.
INSTRUCTION = (
    "Show your work between <reasoning> and </reasoning>, then give the final answer alone between <answer> and "
    "</answer>."
)
_TAG = re.compile(r"<(/?)(reasoning|answer)>")
#: The end of a text that may yet become a tag.
_BEGUN = re.compile(r"</?[a-z]*$")
#: All tags, in the order of a complete text.
TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")

Shape = Literal["complete", "partial", "broken"]


@dataclass(frozen=True)
class Tagged:
    """A text taken apart.

    Args:
        shape: "complete", both pairs of tags once and in order; "broken", a tag without its partner, repeated, nested
            or out of order; "partial", whatever else: no tags at all, or one intact pair alone.
        reasoning: what stands between `<reasoning>` and the tag after it, or the end; of several the first that is not
            empty, "" if there is none.
        answer: what stands in the last intact pair of answer tags, None if there is none.
        alone: whether nothing but white space stands outside of the pairs of tags.
    """

    shape: Shape
    reasoning: str
    answer: str | None
    alone: bool


def write_tagged(steps: Sequence[str], answer: str, separator: str = "\n") -> str:
    """Put steps and answer between tags.

    Args:
        steps: the written steps; without any the answer stands alone.
        answer: the final answer.
        separator: between two steps.

    Returns:
        The text.
    """
    reasoning = f"<reasoning>{separator.join(steps)}</reasoning>" if steps else ""
    return f"{reasoning}<answer>{answer}</answer>"


def parse_tagged(text: str) -> Tagged:
    """Take a text apart at its tags.

    Args:
        text: what a model wrote. Text outside the tags is passed over.

    Returns:
        Shape, reasoning and answer.
    """
    found = list(_TAG.finditer(text))
    names = tuple(match[0] for match in found)
    if names == TAGS:
        shape: Shape = "complete"
    else:
        shape = "partial" if names in ((), TAGS[:2], TAGS[2:]) else "broken"
    reasoning, answer = "", None
    outside = text[: found[0].start()] if found else text
    for index, match in enumerate(found):
        after = found[index + 1] if index + 1 < len(found) else None
        inside = text[match.end() : after.start() if after else len(text)].strip()
        if match[0] == "<reasoning>" and not reasoning:
            reasoning = inside
        elif match[0] == "<answer>" and after is not None and after[0] == "</answer>":
            answer = inside
        if match[1]:
            outside += inside
    return Tagged(shape, reasoning, answer, not outside.strip())


def parse_open(text: str) -> tuple[str, str]:
    """Take a text apart that is still being written.

    Args:
        text: its beginning.

    Returns:
        Reasoning and answer so far, without a tag that has only begun. What has no tags is an answer.
    """
    text = _BEGUN.sub("", text)
    tagged = parse_tagged(text)
    if tagged.answer is not None:
        return tagged.reasoning, tagged.answer
    opened = text.rfind(TAGS[2])
    if opened >= 0:
        return tagged.reasoning, text[opened + len(TAGS[2]) :].strip()
    return tagged.reasoning, "" if _TAG.search(text) else text.strip()


def answer_start(text: str) -> int:
    """Where the reasoning of a text ends.

    Args:
        text: what a model wrote, perhaps not all of it yet.

    Returns:
        The position behind `</reasoning>`; the end of the text while its reasoning is open; 0 if there is none.
    """
    closed = text.find(TAGS[1])
    if closed >= 0:
        return closed + len(TAGS[1])
    return len(text) if TAGS[0] in text and TAGS[2] not in text else 0


def open_answer(text: str) -> str:
    """A text up to the point where its answer begins, with the tags that are missing there.

    Args:
        text: what a model wrote, its answer included or not.

    Returns:
        The text, ending in `<answer>`.
    """
    if TAGS[1] in text:
        return text[: answer_start(text)] + TAGS[2]
    if TAGS[2] in text:
        return text[: text.index(TAGS[2])] + TAGS[2]
    return text + (TAGS[1] if TAGS[0] in text else "") + TAGS[2]
