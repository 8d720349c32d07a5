r"""Where a text says its answer: behind its reasoning, in a mark, behind "the answer is", in its mathematics."""

import re

from latent_gemma.text.boxed import last_boxes

# Each tag body stops at the next tag, so a text of unclosed tags is still read in linear time.
_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_OPEN_TAG = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE_TAG = re.compile(r"</answer>", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\s#][^\n]*)")
_REASONING = re.compile(r"<(/?)(?:reasoning|think|thinking|thought)>", re.IGNORECASE)
_SPOKEN = re.compile(
    r"\banswers?(?: (?:to|for) [^.:\n]{1,80}?)?"
    r"(?:\s+(?:is|are|was|(?:will|would|should|must) be)\b\s*[:：]?|\s*[:：=])"
    r"|(?:答え|正解|解答|回答)(?:は\s*[:：、,]?|\s*[:：]|(?=\s*[-+]?[0-9]))|答\s*[:：]",
    re.IGNORECASE,
)
_SPOKEN_BEHIND = re.compile(r"が(?:答え|正解|解答)(?:です|だ|である|となる|になる)")
_NAMED = re.compile(r"(?:[^\s、。「」]{1,40}|[「『][^「」『』]{1,40}[」』])$")
_SENTENCE_END = re.compile(r"[\n。]|\.(?=\s|$)")
_MATH = re.compile(
    r"\$\$((?:(?!\$\$).)+)\$\$|\$(?P<priced>[^$\n]+)\$(?![0-9])|\\\(((?:(?!\\[()]).)+)\\\)|\\\[((?:(?!\\[\[\]]).)+)\\\]",
    re.DOTALL,
)
_VERB = re.compile(r"\b(?:is|are|be|equals|becomes)\b|(?<=[^\W\d_])\s?[:：]\s|は")
_COMMANDS = re.compile(r"\\(?:text\w*|mathrm|mbox|begin|end|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")
_PROSE = re.compile(r"[^\W\d_]{3,}|\b(?i:is|it|so|of|to|as|we|he)\b")
#: Mathematics is looked for in the end of a text only.
_MATH_CHARS = 2000


def marked_answer(text: str) -> str | None:
    r"""The answer that a text marks.

    Args:
        text: what a model wrote.

    Returns:
        What stands in the last `<answer>..</answer>` that is not empty; else, behind the reasoning, in the last
        `#### ..` or `\boxed{..}`. None if nothing is marked.
    """
    tagged = [inside for inside in map(str.strip, _TAG.findall(text)) if inside]
    if tagged:
        return _unwrapped(tagged[-1])
    said = behind_reasoning(text)
    if said is None:
        return None
    hashes = list(_HASHES.finditer(said))
    boxed = last_boxes(said[hashes[-1].end() :] if hashes else said)
    return boxed if boxed is not None or not hashes else _unwrapped(hashes[-1][1].strip())


def _unwrapped(marked: str) -> str:
    """What a mark within a mark holds."""
    boxed = last_boxes(marked)
    return marked if boxed is None else boxed


def behind_reasoning(text: str) -> str | None:
    """What a text says when it has done reasoning.

    Args:
        text: what a model wrote.

    Returns:
        The text behind its last reasoning tags, and behind `<answer>` if that was left open; all of it without such
        tags; None if it was cut off inside its reasoning.
    """
    tags = list(_REASONING.finditer(text))
    if tags:
        if not tags[-1][1] and not _OPEN_TAG.search(text, tags[-1].end()):
            return None
        text = text[tags[-1].end() :]
    opened = list(_OPEN_TAG.finditer(text))
    return _CLOSE_TAG.split(text[opened[-1].end() :], maxsplit=1)[0] if opened else text


def said_answer(text: str) -> str | None:
    """What follows the last "the answer is" or 答えは, up to the end of its sentence; what 〜が答えです names.

    Args:
        text: a text behind its reasoning, with plain characters.

    Returns:
        The answer as said; None if none is.
    """
    matches = list(_SPOKEN.finditer(text))
    if not matches:
        behind = list(_SPOKEN_BEHIND.finditer(text))
        named = _NAMED.search(text, max(0, behind[-1].start() - 42), behind[-1].start()) if behind else None
        return None if named is None else named[0]
    said = text[matches[-1].end() :].lstrip(" \t\n*:：")
    return _SENTENCE_END.split(said, maxsplit=1)[0].strip(" \t*") or None


def closing_answer(text: str) -> tuple[str, str] | None:
    """What a text works out, and the answer that its last sentence says.

    Args:
        text: a text behind its reasoning.

    Returns:
        What comes before that sentence, and what it says, both stripped; None if the last sentence says no answer.
    """
    matches = list(_SPOKEN.finditer(text))
    if not matches:
        return None
    begun = [end.end() for end in _SENTENCE_END.finditer(text, 0, matches[-1].start())]
    said, *more = _SENTENCE_END.split(text[matches[-1].end() :].strip(" \t\n*:："), maxsplit=1)
    answer = said.strip(" \t*$")
    return (text[: begun[-1] if begun else 0].strip(), answer) if answer and not "".join(more).strip() else None


def mathematics(text: str) -> list[str]:
    r"""What stands in `$..$`, `\(..\)` and `\[..\]` towards the end of a text, in order; prices are not mathematics."""
    spans = []
    for match in _MATH.finditer(text[-_MATH_CHARS:]):
        inside = str(next(filter(None, match.groups())))
        # "$5 + $6 = $11" are prices: mathematics begins and ends at its dollars, or has commands in it.
        is_price = match["priced"] is not None and inside.strip() != inside and "\\" not in inside
        if inside.strip() and not is_price and not has_prose(inside):
            spans.append(inside.strip())
    return spans


def last_clause(text: str) -> list[str]:
    """What the last sentence of a text says that something is, if that is an expression: "the solution is x > 5"."""
    sentences = [sentence for sentence in _SENTENCE_END.split(text[-_MATH_CHARS:]) if sentence.strip()]
    said = _VERB.split(sentences[-1])[-1].strip(" $*") if sentences else ""
    said = said.removesuffix("です")
    return [said] if said and said != sentences[-1].strip() and not has_prose(said) else []


def has_prose(text: str) -> bool:
    """Whether words stand in a text outside of LaTeX's commands."""
    return _PROSE.search(_COMMANDS.sub(" ", text)) is not None
