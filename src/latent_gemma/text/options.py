"""The letter by which a question with options is answered: "(B)", "B) Paris", "Option B"."""

import re

_OPTION = re.compile(
    r"(?P<named>(?:the )?(?:option|choice|選択肢) ?)?"
    r"(?:\((?P<bracketed>[A-J])\)|(?P<closed>[A-J])\)|(?P<dotted>[A-J])[.:](?=\s|$)|(?P<bare>[A-J])\.?$)\s*(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER = re.compile(r"(?<![^\W_])[A-J]\)")


def option_of(answer: str, dotted: bool = False) -> tuple[str, str] | None:
    """The option that an answer names.

    Args:
        answer: with plain characters, as `fold_characters` leaves it.
        dotted: read "B. Paris", too, which may be a name with an initial.

    Returns:
        Its letter, small, and the text behind it, "" if there is none; None if the answer names no option or several.
    """
    found = _OPTION.fullmatch(answer.strip())
    if found is None or _ANOTHER.search(found["rest"]):
        return None
    letter = found["bracketed"] or found["closed"] or (found["dotted"] if dotted else None)
    letter = letter or (found["named"] and (found["bare"] or found["dotted"]))
    return (letter.lower(), found["rest"].strip()) if letter else None
