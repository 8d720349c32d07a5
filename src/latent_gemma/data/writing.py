"""Examples as JSON Lines."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.files import whole_file
from latent_gemma.text.tags import write_tagged

Style = Literal["examples", "prompt_completion"]


def _row(example: Example, style: Style) -> dict[str, object]:
    if style == "prompt_completion":
        # a row without steps keeps its tags, with nothing between them
        return {"prompt": example.question, "completion": write_tagged(example.steps or ("",), example.answer)}
    row: dict[str, object] = {
        "question": example.question,
        "steps": list(example.steps),
        "answer": example.answer,
        "language": example.language,
    }
    return row | ({"accepted": list(example.accepted)} if example.accepted else {})


def write_lines(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write rows, one JSON object a line, whole or not at all.

    Args:
        rows: what to write.
        path: the file; its folder is made if need be.

    Raises:
        DataError: if the file cannot be written.
    """
    try:
        with (
            whole_file(path) as partial,
            partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error


def write_jsonl(examples: Iterable[Example], path: Path, style: Style = "examples") -> None:
    """Write examples, whole or not at all.

    Args:
        examples: what to write.
        path: the file; its folder is made if need be.
        style: "examples" with question, steps, answer and language, and accepted answers where there are further ones;
            "prompt_completion" with the steps between `<reasoning>` tags and the answer between `<answer>` tags.

    Raises:
        DataError: if the file cannot be written.
    """
    write_lines((_row(example, style) for example in examples), path)
