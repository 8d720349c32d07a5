"""Answers as expressions for a LaTeX parser; what it should not be shown is refused here, unread."""

import re

from latent_gemma.text.normalize import fold_characters, strip_thousands

#: Deeper brackets are refused: the time of the LaTeX grammar grows steeply with every level.
MAX_NESTING = 8
#: Larger exponents are refused: such numbers fill the memory.
MAX_EXPONENT = 100_000

_DELIMITERS = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
_EXPONENTS = re.compile(r"(?:\^[{( ]*[+-]?[{( ]*[0-9]+(?:\.[0-9]*)? ?)+")
_WHOLE_PART = re.compile(r"(?<![0-9.])[0-9]+")
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mbox|operatorname|begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(r"(?i:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|exp|sqrt|abs|min|max|gcd|lcm)")


def to_expression(text: str) -> str | None:
    """Bring an answer to the form the LaTeX parser is given.

    Args:
        text: the answer, with or without `$`, in LaTeX or as people type it ("2**10", "x²", "１，０８０").

    Returns:
        The answer between two `$`, or None if it is not for the parser: empty, a word, nested too deep, or a power
        too large to write down such as `9**9**9`.
    """
    text = strip_thousands(fold_characters(text)).replace("**", "^")
    text = " ".join(_DELIMITERS.sub(" ", text).split())
    if not text or _has_words(text) or _depth(text) > MAX_NESTING or any(map(_is_huge, _EXPONENTS.findall(text))):
        return None
    return f"${text}$"


def _has_words(text: str) -> bool:
    """Letters side by side are a product to the parser: "Tokyo" would equal "kyoTo"."""
    return any(_FUNCTION.fullmatch(word) is None for word in _WORD.findall(_COMMAND.sub(" ", text)))


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _is_huge(exponents: str) -> bool:
    """Whether exponents upon exponents, such as "^9^9" or "^{9^{9", come to more than the largest allowed one."""
    height = 1
    for digits in reversed(_WHOLE_PART.findall(exponents)):
        base = int(digits[:20])
        if base > 1 and height * base.bit_length() > 64:
            return True
        height = base**height
    return height > MAX_EXPONENT
