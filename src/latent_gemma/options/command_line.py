"""A verb's options as they are typed: the help, what a file says before them, and one line for what is wrong."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from latent_gemma.errors import ConfigError
from latent_gemma.options.config_file import read_values
from latent_gemma.options.flat import Option, assembled, flat
from latent_gemma.ranges import nearest
from latent_gemma.ranges import option as typed

#: Options that stand elsewhere now, verb and option -> where.
_MOVED = {("vote", "--data"): "latent-gemma eval RUN --data FILE --votes 5 measures votes"}
#: What older versions called a switch.
_OLDER = {("eval", typed("no_controls")): ("--controls", "none")}
_FILE_TEXT = (
    "read options from this TOML file, name = value, or from the run.json of a run; what is typed comes before it."
)


def parse(config_class: type, args: Sequence[str], verb: str) -> Any:
    """Read a verb's options.

    Args:
        config_class: its configuration.
        args: what the user typed after the verb.
        verb: for the help text.

    Returns:
        The configuration: its defaults, over them the file of `--config`, over that what was typed.

    Raises:
        ConfigError: in one line, for an unknown option, a missing or a wrong value.
        SystemExit: with status 0 after --help.
    """
    passes_on = getattr(config_class, "passes_on", False)
    if passes_on and args[:1] != ["--help"]:
        return config_class(options=tuple(args))  # of another program
    args = [word for arg in args for word in _OLDER.get((verb, arg), (arg,))]
    options, see_help = list(flat(config_class)), f"see latent-gemma {verb} --help"
    _refuse_unknown(args, options, verb, see_help)
    file = _at_home(_config_of(args))
    given = read_values(file, options, see_help) if file else {}
    stream = io.StringIO()
    try:
        with contextlib.redirect_stderr(stream):
            read: Any = tyro.cli(
                _parser_class(options, given, reads_file=not passes_on),
                config=(tyro.conf.OmitArgPrefixes,),
                args=args,
                prog=f"latent-gemma {verb}",
                description=(config_class.__doc__ or "").split("\n")[0],
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_one_line(stream.getvalue()), see_help) from None
    values = {**vars(read), **vars(getattr(read, "advanced", read))}
    return assembled(config_class, {name: _at_home(value) for name, value in values.items()})


def _at_home(value: Any) -> Any:
    """A path, or several, with ~ as the user's folder, which no shell puts behind --out=."""
    if isinstance(value, tuple):
        return tuple(map(_at_home, value))
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{value}: there is no such user", "write the path out") from error


def _parser_class(options: Sequence[Option], given: Mapping[str, Any], reads_file: bool) -> Any:
    """The options as tyro takes them: those that are typed first, then the rest in a group of its own."""
    first, rest = list[tuple[str, Any, Any]](), list[tuple[str, Any, Any]]()
    for option in options:
        kind: Any = option.kind
        default = given.get(option.name, option.default)
        made: Any = field() if default is MISSING else field(default=default)
        shown = tyro.conf.arg(help=option.text, metavar=option.name.upper() if option.is_positional else None)
        entry = (option.name, Annotated[kind, shown], made)
        (rest if option.is_advanced else first).append(entry)
    if reads_file:
        first.append(("config", Annotated[Path | None, tyro.conf.arg(help=_FILE_TEXT)], field(default=None)))
    if rest:
        advanced = make_dataclass("Advanced", rest, kw_only=True, namespace={"__doc__": ""})
        first.append(("advanced", advanced, field(default_factory=advanced)))
    return make_dataclass("Options", first, kw_only=True, namespace={"__doc__": ""})


def _names(args: Sequence[str]) -> list[str]:
    """The options that were typed, spelt with dashes."""
    return [arg.split("=")[0].replace("_", "-") for arg in args if re.match(r"--[A-Za-z][\w-]*(=|$)", arg)]


def _refuse_unknown(args: Sequence[str], options: Sequence[Option], verb: str, see_help: str) -> None:
    known = [typed(option.name) for option in options if not option.is_positional]
    bare = [option.name for option in options if option.is_positional]
    switches = [typed(f"no_{option.name}") for option in options if option.is_switch]
    for name in _names(args):
        if name not in (*known, *switches, "--config", "--help"):
            moved = _MOVED.get((verb, name))
            if name.removesuffix("s") in {typed(word).removesuffix("s") for word in bare}:
                moved = f"it has no name: latent-gemma {verb} {' '.join(bare).upper()}"
            raise ConfigError(
                f"unknown option {name}", moved or nearest(name, [*known, *switches, "--config"], see_help)
            )


def _config_of(args: Sequence[str]) -> Path | None:
    """The file that was named last."""
    found = None
    for arg, value in zip(args, [*args, ""][1:], strict=True):
        if arg == "--config" and value:
            found = Path(value)
        elif arg.startswith("--config="):
            found = Path(arg.removeprefix("--config="))
    return found


def _one_line(text: str) -> str:
    """A parser's boxed message as one line: what is unknown, what is missing, or else what it says."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", plain).split())
    unknown = re.search(r"Unrecognized options?: (.*?)(?= [\w-]+ [\w -]*--help|$| ?Perhaps| Similar)", words)
    if unknown:
        return f"unknown option {unknown[1].split()[0]}"
    missing = re.search(r"Missing from .*?: (.*)", words)
    if missing:
        named = re.findall(r"(?:^| )(--[\w-]+) [A-Z{]", missing[1]) or missing[1].split()[:1]
        return f"missing {', '.join(dict.fromkeys(named))}"
    said = re.sub(r" ?(Argument helptext:|For full helptext).*$", "", words)
    said = re.sub(r"^(Parsing error|Value error|Invalid choice|Missing argument)\s*(Error parsing )?", "", said)
    return said.strip().rstrip(".") or "bad options"
