"""Examples as JSON Lines."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.errors import DataError

Style = Literal["examples", "prompt_completion"]


def _row(example: Example, style: Style) -> dict[str, object]:
    if style == "prompt_completion":
        reasoning = "\n".join(example.steps)
        completion = f"<reasoning>{reasoning}</reasoning><answer>{example.answer}</answer>"
        return {"prompt": example.question, "completion": completion}
    return {
        "question": example.question,
        "steps": list(example.steps),
        "answer": example.answer,
        "language": example.language,
    }


def write_jsonl(examples: Iterable[Example], path: Path, style: Style = "examples") -> None:
    """Write examples, whole or not at all.

    Args:
        examples: what to write.
        path: the file.
        style: "examples" with question, steps, answer and language; "prompt_completion" with the steps between
            `<reasoning>` tags and the answer between `<answer>` tags.

    Raises:
        DataError: if the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for example in examples:
                file.write(json.dumps(_row(example, style), ensure_ascii=False) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
