"""A configuration class as the flat list of its options, and back: on the command line groups have no names."""

import inspect
import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from latent_gemma.ranges import ADVANCED
from latent_gemma.ranges import option as typed


@dataclass(frozen=True)
class Option:
    """One option of a verb.

    Args:
        name: of its field; no two of a verb are the same.
        groups: names of the fields that lead to it, the outermost first.
        kind: its type, with what annotates it.
        default: its value where nothing is said; `MISSING` where something has to be.
        text: what the help says.
    """

    name: str
    groups: tuple[str, ...]
    kind: Any
    default: Any
    text: str

    @property
    def notes(self) -> tuple[Any, ...]:
        """What annotates its type."""
        return self.kind.__metadata__ if get_origin(self.kind) is Annotated else ()

    @property
    def is_advanced(self) -> bool:
        """Whether a person seldom turns it."""
        return ADVANCED in self.notes

    @property
    def is_positional(self) -> bool:
        """Whether it is said by its place."""
        return Positional in self.notes

    @property
    def is_switch(self) -> bool:
        """Whether it is said as --name and --no-name."""
        return bare(self.kind) is bool


def bare(kind: Any) -> Any:
    """A type without what annotates it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _texts(config_class: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field."""
    found = {}
    for owner in reversed(config_class.__mro__):
        said = inspect.cleandoc(owner.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", said, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def flat(config_class: type, groups: tuple[str, ...] = (), default: Any = MISSING) -> Iterator[Option]:
    """The options of a configuration class, those of its groups among them.

    Args:
        config_class: a dataclass; fields that are dataclasses are groups.
        groups: that lead to it.
        default: an instance that says the defaults; without one the fields do.

    Yields:
        The options, in the order of the fields.
    """
    kinds, texts = get_type_hints(config_class, include_extras=True), _texts(config_class)
    for field in fields(config_class):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        value = value if default is MISSING else getattr(default, field.name)
        if is_dataclass(kinds[field.name]):
            yield from flat(kinds[field.name], (*groups, field.name), value)
        else:
            yield Option(field.name, groups, kinds[field.name], value, texts.get(field.name, ""))


def assembled(config_class: type, values: Mapping[str, Any]) -> Any:
    """A configuration from the values of its options.

    Args:
        config_class: its class.
        values: name of each option -> its value.

    Returns:
        The configuration.

    Raises:
        ConfigError: for a value that its class refuses.
    """
    kinds = get_type_hints(config_class)
    return config_class(
        **{
            field.name: assembled(kinds[field.name], values) if is_dataclass(kinds[field.name]) else values[field.name]
            for field in fields(config_class)
        }
    )


def _values(config: Any) -> Iterator[tuple[Option, Any]]:
    """The options of a configuration, each with its value."""
    for option in flat(type(config)):
        value = config
        for name in (*option.groups, option.name):
            value = getattr(value, name)
        yield option, value


def told(config: Any) -> str:
    """A configuration in a line, name=value; what is None is left out, and what is seldom turned and was not."""
    said = []
    for option, value in _values(config):
        if option.is_advanced and value == option.default:
            continue
        for each in value if isinstance(value, tuple) else () if value is None else (value,):
            text = str(each).lower() if isinstance(each, bool) else str(each)
            plain = text.isprintable() and text and not {" ", '"'} & {*text}
            said.append(f"{option.name}={text if plain else json.dumps(text, ensure_ascii=False)}")
    return " ".join(said)


def retyped(config: Any, names: Container[str]) -> list[str]:
    """Some options of a configuration as they would be typed, without those at their defaults.

    Args:
        config: the configuration.
        names: of the options.

    Returns:
        Words of a command line.
    """
    words = []
    for option, value in _values(config):
        if option.name not in names or value == option.default:
            continue
        if option.is_switch:
            words.append(typed(option.name if value else f"no_{option.name}"))
        else:
            words += [typed(option.name), *map(str, value if isinstance(value, tuple) else (value,))]
    return words
