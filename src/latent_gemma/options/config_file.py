"""Options from a file: TOML that a person wrote, or what a run has written of itself."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from latent_gemma.errors import ConfigError
from latent_gemma.options.flat import Option, bare
from latent_gemma.ranges import missing, nearest

#: How a person calls what a value has to be.
_WANTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: 'text, in quotes: "..."',
    Path: 'a path, in quotes: "..."',
}


def read_values(path: Path, options: Sequence[Option], otherwise: str) -> dict[str, Any]:
    """Read the options that a file gives.

    Args:
        path: a TOML file, its keys the names of options, in tables named as their groups or not; or the run.json or
            settings.json of a run.
        options: of the verb.
        otherwise: the remedy for a key that is like none of them.

    Returns:
        Name of an option -> its value.

    Raises:
        ConfigError: if the file cannot be read, for an unknown key, one that is there twice, or a value of another
            type.
    """
    reader = _Reader(path, {option.name: option for option in options}, otherwise)
    values: dict[str, Any] = {}
    for option, value in reader.walk(_load(path)):
        if option.name in values:
            raise ConfigError(f"{path} says {option.name} twice", "keep one of them")
        values[option.name] = reader.converted(value, option.name, option.kind)
    return values


def _load(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        read = json.loads(text)["config"] if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(read, dict):
            raise TypeError("its config is no object")
    except OSError as error:
        remedy = "give a TOML file" if path.exists() else missing(path, "give a TOML file")
        raise ConfigError(f"--config {path} cannot be read: {error.strerror}", remedy) from error
    except (KeyError, TypeError) as error:
        raise ConfigError(f"--config {path} holds no configuration of a run", "give the run.json of one") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config {path} cannot be read: {error}", "write it as TOML: name = value") from error
    return read


@dataclass(frozen=True)
class _Reader:
    path: Path
    options: Mapping[str, Option]
    otherwise: str

    def walk(self, table: Mapping[str, Any], groups: tuple[str, ...] = ()) -> Iterator[tuple[Option, Any]]:
        """The options in a table and the tables in it, with their values."""
        here = [option for option in self.options.values() if option.groups[: len(groups)] == groups]
        inner = [option.groups[len(groups)] for option in here if len(option.groups) > len(groups)]
        for key, value in table.items():
            name = key.replace("-", "_")
            if isinstance(value, dict) and name in inner:
                yield from self.walk(value, (*groups, name))
            elif name in [option.name for option in here]:
                yield self.options[name], value
            else:
                known = [*(option.name for option in here), *inner]
                raise ConfigError(f"{self.path}: unknown key {key!r:.60}", nearest(name, known, self.otherwise))

    def converted(self, value: Any, name: str, kind: Any) -> Any:
        """A value as its option holds it."""
        kind, parts = bare(kind), get_args(bare(kind))
        if get_origin(kind) is Literal:
            if value not in parts:
                raise self._wrong(name, value, f"one of {', '.join(parts)}")
            return value
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                raise self._wrong(name, value, "a list: [..]")
            return tuple(self.converted(each, name, parts[0]) for each in value)
        if get_origin(kind) in (Union, UnionType):
            words = [part for part in parts if get_origin(part) is Literal]
            if (value is None and NoneType in parts) or any(value in get_args(part) for part in words):
                return value
            others = [part for part in parts if part is not NoneType and part not in words]
            return self.converted(value, name, (others or words)[0])
        wanted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(name, value, _WANTED[kind])
        return kind(value)

    def _wrong(self, name: str, value: Any, wanted: str) -> ConfigError:
        shown = json.dumps(value, default=str, ensure_ascii=False)
        return ConfigError(f"{self.path}: {name} is {shown:.60}", f"give {wanted}")
