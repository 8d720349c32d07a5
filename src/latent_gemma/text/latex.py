r"""LaTeX written plainly, as far as a number or a word in it goes: `6{,}400\text{ km}` is 6,400 km."""

import re

#: Fractions within fractions, and words within words, are written out down to here.
MAX_NESTING = 4

_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|hbox|operatorname|emph|boldsymbol|bm)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_DIGITS = re.compile(r"-?[0-9][0-9.,]*")
_BRACED_COMMA = re.compile(r"(?<=[0-9])\{,\}(?=[0-9])")
_THIN_THOUSANDS = re.compile(r"(?<=[0-9]),?(?:\\[,!])+ ?(?=[0-9]{3}(?![0-9]))")
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
_REPEATING = re.compile(r"(\.[0-9]{0,50})\\(?:overline|bar|dot)\s*(?:\{([0-9]{1,50})\}|([0-9]))")
_SPACE = re.compile(r"(?<!\\)\\[,;:! ()\[\]]|\\(?:q?quad|displaystyle|left|right|[bB]igg?[lr]?)(?![A-Za-z])")
_ESCAPED = re.compile(r"\\(?=[$%{}&#_])")
_SYMBOL = re.compile(r"\\([A-Za-z]+)")
_SYMBOLS = {
    "times": "×", "cdot": "×", "div": "÷", "pm": "±", "mp": "±", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥",
    "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">", "ne": "≠", "neq": "≠", "approx": "≈", "sim": "≈", "infty": "∞",
    "pi": "π", "sqrt": "√", "degree": "°", "dots": "…", "ldots": "…", "cdots": "…", "to": "→", "rightarrow": "→",
    "Rightarrow": "→", "implies": "→", "emptyset": "∅", "varnothing": "∅",
}  # fmt: skip


def plain_latex(text: str) -> str:
    r"""Write LaTeX plainly.

    Args:
        text: with LaTeX in it, or without any.

    Returns:
        The text with `\frac{3}{4}` as "3/4" (behind a digit " 3/4", a mixed number), other fractions as "(a)/(b)", the
        words of `\text{..}` alone, signs by their Unicode characters, `0.\overline{3}` as "0.(3)", and spacing as
        spaces; commands it does not know stay.
    """
    if "\\" not in text and "{,}" not in text:
        return text
    text = _THIN_THOUSANDS.sub(",", _BRACED_COMMA.sub(",", text))
    text = _REPEATING.sub(lambda found: f"{found[1]}({found[2] or found[3]})", _DEGREE.sub("°", text))
    text = _ESCAPED.sub("", _SPACE.sub(" ", text))
    for _ in range(MAX_NESTING):
        before = text
        text = _FRACTION.sub(_divided, _WRAPPED.sub(_words, text))
        if text == before:
            break
    return _SYMBOL.sub(lambda found: _SYMBOLS.get(found[1], found[0]), text)


def _words(found: re.Match[str]) -> str:
    """The words of `\\text{ m}^2`, apart from what is around them but for a power."""
    behind = found.string[found.end() : found.end() + 1]
    return f" {found[1].strip()}{'' if behind == '^' else ' '}"


def _divided(found: re.Match[str]) -> str:
    above, below = (found[1] or found[2] or "").strip(), (found[3] or found[4] or "").strip()
    if not (_DIGITS.fullmatch(above) and _DIGITS.fullmatch(below)):
        return f"({above})/({below})"
    return f"{' ' if found.string[max(0, found.start() - 1) : found.start()].isdigit() else ''}{above}/{below}"
