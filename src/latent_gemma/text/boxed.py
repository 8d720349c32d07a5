r"""The answer in the last `\boxed{}`: of worked solutions and of what models write."""

import re

#: A longer box is no answer.
MAX_BOX_CHARS = 1000

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([^\s$]+))")
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
        inside = _inside(text, box)
        if inside != "":
            return inside
    return None


def _inside(text: str, box: re.Match[str]) -> str | None:
    """What a box holds; None if that cannot be told."""
    if box[1] is not None:
        bare = box[1].rstrip(".,")
        return bare if len(bare) <= MAX_BOX_CHARS else None
    depth = 1
    for brace in _BRACE.finditer(text, box.end(), box.end() + MAX_BOX_CHARS + 1):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[box.end() : brace.start()].strip()
    return None
