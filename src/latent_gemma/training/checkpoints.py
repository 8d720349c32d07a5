"""Which checkpoints a run folder holds, whether they are what was written, and which may go."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from latent_gemma.errors import RunError
from latent_gemma.files import PARTIAL, sha256_of, write_atomically

#: Sizes and hashes of a checkpoint's files; written last.
MANIFEST = "manifest.json"
#: How good a checkpoint is: {"kind": of what, "value": the less the better}.
SCORE = "score.json"
PREFIX = "checkpoint-"


def write_manifest(checkpoint: Path) -> None:
    """Write down size and SHA-256 of every file of a checkpoint.

    Args:
        checkpoint: the folder, complete but for the manifest.
    """
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    entries = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in files
    }
    write_atomically(checkpoint / MANIFEST, json.dumps(entries, indent=1) + "\n")


def find_damage(checkpoint: Path) -> str | None:
    """Compare a checkpoint with its manifest.

    Args:
        checkpoint: the folder.

    Returns:
        What is wrong with it, naming the file, or None if it is whole.
    """
    try:
        entries = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        known = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except OSError:
        return f"it has no {MANIFEST}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST} cannot be read"
    found = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if not path.is_dir()}
    for name in sorted(found - {MANIFEST, *known}):
        return f"{name} is none of its files"
    for name, (size, sha256) in sorted(known.items()):
        path = checkpoint / name
        if name not in found:
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes in place of {size}"
        if sha256_of(path) != sha256:
            return f"{name} has changed since it was written"
    return None


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, whole or not, oldest first."""
    found = [path for path in run.glob(f"checkpoints/{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(PREFIX) :]))


def last_checkpoint(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole.

    Args:
        run: the run folder.

    Returns:
        The checkpoint, or None; and what is wrong with each that is newer, newest first.
    """
    refused: list[str] = []
    for path in reversed(list_checkpoints(run)):
        damage = find_damage(path)
        if damage is None:
            return path, refused
        refused.append(f"{path} is damaged: {damage}")
    return None, refused


def refuse_damaged(run: Path) -> None:
    """Check the newest checkpoint of a run that was told to go on from it.

    Args:
        run: the run folder.

    Raises:
        RunError: if there is none, or it is damaged; names the last good one.
    """
    good, refused = last_checkpoint(run)
    if refused:
        remedy = f"the last good one is {good.name}, which --resume auto takes" if good else "no other one is whole"
        raise RunError(refused[0], remedy)
    if good is None:
        raise RunError(f"{run} holds no checkpoint to resume", "start it with --resume no, or auto")


def _score(checkpoint: Path) -> tuple[str, float]:
    try:
        score = json.loads((checkpoint / SCORE).read_text(encoding="utf-8"))
        return str(score["kind"]), float(score["value"])
    except (OSError, ValueError, KeyError, TypeError):  # an older version's, or not whole
        return "", math.nan


def best_of(checkpoints: Sequence[Path]) -> Path:
    """The best of some checkpoints.

    Args:
        checkpoints: oldest first, at least one.

    Returns:
        The one with the least score of those that are scored as the newest is; of equal ones, or without scores, the
        newest.
    """
    kind = _score(checkpoints[-1])[0]
    scored = [(value, -place) for place, path in enumerate(checkpoints) for own, value in [_score(path)] if own == kind]
    finite = [each for each in scored if math.isfinite(each[0])]
    return checkpoints[-min(finite)[1]] if finite else checkpoints[-1]


def rotate(folder: Path, limit: int | None) -> None:
    """Remove old checkpoints.

    Args:
        folder: what holds them.
        limit: how many of the newest to keep; None or 0 for all. The best one is always kept.
    """
    kept = list_checkpoints(folder.parent)
    if not limit or not kept:
        return
    best = best_of(kept)
    for path in kept[:-limit]:
        if path != best:
            # Renamed first: killed half-way through, what is left is not taken for a checkpoint.
            going = path.with_name(f".{path.name}{PARTIAL}")
            os.replace(path, going)
            shutil.rmtree(going, ignore_errors=True)
