r"""The answer in the last `\boxed{}`: of worked solutions and of what models write."""

import re

#: A longer box is no answer.
MAX_BOX_CHARS = 1000

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([^\s$]+))")
_BESIDE = re.compile(r"(?:[\s,;$]|\\(?:q?quad|text\s*\{\s*(?:,|and|or|,? and)?\s*\})|\\[,;() ]|\b(?:and|or)\b){1,20}")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""Find the answer in a box.

    Args:
        text: LaTeX, or any text.

    Returns:
        What stands in the last `\boxed{..}`, `\fbox{..}` or after a `\boxed` without braces that is not empty; braces
        are balanced and escaped ones (`\{`) are part of the answer. None if there is none, or the last one is never
        closed or holds more than 1,000 characters.
    """
    for box in reversed(list(_BOX.finditer(text))):
        inside, _ = _inside(text, box)
        if inside != "":
            return inside
    return None


def last_boxes(text: str) -> str | None:
    r"""Find the answer in a box, or in several that stand side by side.

    Args:
        text: LaTeX, or any text.

    Returns:
        As `last_boxed`; of `\boxed{1}, \boxed{2} and \boxed{3}` all of them, "1, 2, 3".
    """
    last = last_boxed(text)
    if last is None:
        return None
    answers, start = list[str](), 0
    for box in _BOX.finditer(text):
        inside, end = _inside(text, box)
        if not inside:
            continue
        if answers and not _BESIDE.fullmatch(text, start, box.start()):
            answers = []
        answers.append(inside)
        start = end
    return ", ".join(answers) if len(answers) > 1 and answers[-1] == last else last


def _inside(text: str, box: re.Match[str]) -> tuple[str | None, int]:
    """What a box holds, None if that cannot be told, and the position behind it."""
    if box[1] is not None:
        bare = box[1].rstrip(".,")
        return (bare if len(bare) <= MAX_BOX_CHARS else None), box.start(1) + len(bare)
    depth = 1
    for brace in _BRACE.finditer(text, box.end(), box.end() + MAX_BOX_CHARS + 1):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[box.end() : brace.start()].strip(), brace.end()
    return None, box.end()
