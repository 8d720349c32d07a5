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
        What stands in the last `\boxed{..}`, `\fbox{..}` or after a `\boxed` without braces; braces are balanced and
        escaped ones (`\{`) are part of the answer. None if there is none, it is empty, is never closed or holds more
        than 1,000 characters.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    last = boxes[-1]
    if last[1] is not None:
        bare = last[1].rstrip(".,")
        return bare if 0 < len(bare) <= MAX_BOX_CHARS else None
    depth = 1
    for brace in _BRACE.finditer(text, last.end(), last.end() + MAX_BOX_CHARS + 1):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[last.end() : brace.start()].strip() or None
    return None
