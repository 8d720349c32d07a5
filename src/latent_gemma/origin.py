"""What a run, a study or an evaluation depends on: written down before it begins, compared before it goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_gemma.errors import RunError
from latent_gemma.files import write_atomically

#: What a run was begun with, and what made it, once it is finished; files of its folder.
SETTINGS, RECORD = "settings.json", "run.json"
#: Of a value that is told, so many characters.
SHOWN = 60


def write_origin(path: Path, origin: Mapping[str, Any]) -> None:
    """Write down what work in a folder depends on.

    Args:
        path: the file.
        origin: name -> value, ready for JSON.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomically(path, json.dumps(origin, ensure_ascii=False, indent=2, default=str) + "\n")


def read_origin(path: Path) -> dict[str, Any]:
    """Read what `write_origin` wrote.

    Args:
        path: the file.

    Returns:
        The origin.

    Raises:
        RunError: if it cannot be read.
    """
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(origin, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read", "give another --out") from error
    return origin


def refuse_changes(folder: Path, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with what depends on something else.

    Args:
        folder: what is there.
        kind: what that is, such as "an evaluation".
        before: what it depends on, name -> value.
        now: what would go on.

    Raises:
        RunError: naming the first difference and both values.
    """
    names = [*before, *(name for name in now if name not in before)]
    changed = next((name for name in names if before.get(name) != now.get(name)), None)
    if changed is not None:
        then, here = (str(values.get(changed, "none"))[:SHOWN] for values in (before, now))
        raise RunError(
            f"{folder} is {kind} with another {changed} ({then} there, {here} here)",
            "give another --out, or the options it was started with",
        )
