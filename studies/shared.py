"""A study as a script: its command line and its folders."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from latent_gemma.cli import quieten
from latent_gemma.errors import LatentGemmaError
from latent_gemma.text.display import displayable


def command(config_class: type, run: Callable[[Any], object], args: Sequence[str] | None = None) -> int:
    """Run a study as a script.

    Args:
        config_class: its configuration, a dataclass whose fields are the options.
        run: what is done with it.
        args: the command line without the script's name; None takes the process's.

    Returns:
        0 when it worked, 2 when what was asked for cannot be done (told in one line), 130 after Ctrl-C.
    """
    quieten()
    try:
        run(tyro.cli(config_class, args=args))
    except LatentGemmaError as error:
        print(displayable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def models_folder(out: Path, models: Path | None) -> Path:
    """Where a study's models go: never beside the report, which may be kept in git."""
    return models or Path("runs") / f"results-{out.name}"
