"""Text of data sets and models as it can be shown: what would steer a terminal becomes visible."""

import html
import re

# Control characters (of both sets), line and paragraph separators, what reorders a line, half surrogate pairs.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PICTURE_OF_DELETE = "␡"


def displayable(text: str) -> str:
    """Make text safe to print; line breaks and tabs stay.

    Args:
        text: from a file, a model, or a message that quotes one.

    Returns:
        The text in which no terminal finds a command: the escape character is "␛", so that a sequence that would
        colour, move or rename is read as it was written; other characters without a picture become their escapes, such
        as "\\x9b".
    """
    return _STEERING.sub(_picture, text)


def escape(text: str) -> str:
    """Text as an HTML page shows it: no tag, no end of an attribute, and `displayable`.

    Args:
        text: of any origin.

    Returns:
        HTML.
    """
    return html.escape(displayable(text))


def visible(token: str) -> str:
    """A token as it can be seen: white space and control characters become symbols.

    Args:
        token: a decoded token.

    Returns:
        The text; "∅" for an empty token.
    """
    pictures = {" ": "␣", "\n": "⏎", "\t": "⇥", "\u3000": "␣", "\xa0": "␣", "\u200b": "∅"}
    return "".join(pictures.get(c) or displayable(c) for c in token) or "∅"


def _picture(found: re.Match[str]) -> str:
    character = found[0]
    # Unicode draws the control characters 0 to 31 from U+2400 on.
    if character < " ":
        return chr(0x2400 + ord(character))
    if character == "\x7f":
        return _PICTURE_OF_DELETE
    return character.encode("ascii", "backslashreplace").decode("ascii")
