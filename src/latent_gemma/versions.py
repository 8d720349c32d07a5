"""The versions this package runs with, and which of them nobody has tested; the package's own metadata says both."""

import platform
from importlib import metadata

from packaging.requirements import Requirement

_NAME = "latent-gemma"


def _requirements() -> list[Requirement]:
    """What every installation needs."""
    found = map(Requirement, metadata.requires(_NAME) or ())
    return [needed for needed in found if needed.marker is None or needed.marker.evaluate({"extra": ""})]


def extra_requirements(extra: str) -> list[Requirement]:
    """What an extra needs beside that."""
    needed = map(Requirement, metadata.requires(_NAME) or ())
    return [one for one in needed if one.marker is not None and one.marker.evaluate({"extra": extra})]


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of every library that an installation needs."""
    found = {_NAME: metadata.version(_NAME), "python": platform.python_version()}
    return found | {needed.name: metadata.version(needed.name) for needed in _requirements()}


def untested() -> list[str]:
    """What there is to say about libraries outside the range that was tested, a line each."""
    lines = []
    for needed in _requirements():
        version = metadata.version(needed.name)
        if not needed.specifier.contains(version, prereleases=True):
            lines.append(
                f"{needed.name} {version} has not been tested, {needed.specifier} has: "
                f'pip install "{needed.name}{needed.specifier}" if something is wrong'
            )
    return lines
