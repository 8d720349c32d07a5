"""Rows of messages: one question and its answer, as chat templates, ShareGPT, TRL and verl have them."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import found, text_of
from latent_gemma.errors import DataError

#: The columns that hold messages.
_COLUMNS = ("messages", "conversations", "prompt")
#: What tools call the two that speak; what a system or a developer says goes before every question, and is not read.
_ASKS, _ANSWERS, _UNREAD = ("user", "human"), ("assistant", "gpt", "model"), ("system", "developer")


def _said(message: Any, column: str, where: str) -> tuple[str, str]:
    """Who says it, and what."""
    if not isinstance(message, Mapping):
        raise DataError(f"{where}, column {column!r}: expected messages with a role, found {found(message)} in it")
    place = f"{where}, column {column!r}"
    name = "role" if "role" in message else "from"
    role, content = text_of(message, name, place), message.get("content" if "content" in message else "value")
    if isinstance(content, list):  # parts, of which a text model reads the texts
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise DataError(f"{place}: expected parts of text, found others")
        content = "\n".join(texts)
    return role, text_of({"content": content}, "content", place)


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row's question is in a list of messages; a problem with its solution is read as such."""
    held = any(isinstance(row.get(name), list) for name in _COLUMNS)
    return held and not {"problem", "solution"} <= set(row)


def _messages(row: Mapping[str, Any], where: str) -> tuple[str, list[Any]]:
    """The column of the messages, and the messages."""
    name = next(name for name in _COLUMNS if isinstance(row.get(name), list))
    listed = row[name]
    reply = next((each for each in ("completion", "chosen") if each in row), None) if name == "prompt" else None
    if reply is None:
        return name, listed
    if not isinstance(row[reply], list):
        raise DataError(f"{where}, column {reply!r}: expected a list of messages, found {found(row[reply])}")
    # what was chosen is a whole conversation in some
    return name, row[reply] if row[reply][: len(listed)] == listed else listed + row[reply]


def chat_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of messages.

    Args:
        row: `messages` or `conversations`, a list of {"role": .., "content": ..} or {"from": .., "value": ..}; or such
            a list as `prompt`, with `completion` or `chosen`, a list as well, or with the answer alone, as rewards are
            given for it: `answer`, `solution`, `ground_truth`, or verl's {"reward_model": {"ground_truth": ..}}.
        where: file and line, for messages.

    Returns:
        The row as question and answer.

    Raises:
        DataError: naming the column that is missing or wrong; for more than one question or answer.
    """
    name, listed = _messages(row, where)
    turns = [turn for message in listed if (turn := _said(message, name, where))[0] not in _UNREAD]
    asks = [role in _ASKS for role, _ in turns]
    rewarded = row["reward_model"] if isinstance(row.get("reward_model"), Mapping) else row
    truth = next((each for each in ("answer", "ground_truth", "solution") if each in rewarded), None)
    if asks == [True] and truth is not None:
        answer = text_of(rewarded, truth, where)
    elif asks == [True, False] and turns[1][0] in _ANSWERS:
        answer = turns[1][1]
    else:
        roles = ", ".join([role[:20] for role, _ in turns[:6]] + [".."] * (len(turns) > 6)) or "none"
        raise DataError(
            f"{where}, column {name!r}: expected one question and its answer, found {roles}",
            "--skip-bad leaves such rows out",
        )
    return {"question": turns[0][1], "answer": answer}
