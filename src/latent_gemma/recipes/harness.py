"""`latent-gemma harness`: the command line of lm-evaluation-harness, with our models known to it."""

import importlib
import sys

from latent_gemma.errors import ConfigError
from latent_gemma.options.tools import Harness


def run_harness(config: Harness) -> None:
    """Hand the options to the harness.

    Args:
        config: the options.

    Raises:
        ConfigError: if the harness is not installed, there is no option, or a task is unknown.
    """
    try:
        cli = importlib.import_module("lm_eval.__main__")
        adapter = importlib.import_module("latent_gemma.evaluation.lm_eval")
    except ImportError as error:
        raise ConfigError(
            "the verb harness needs the extra of that name", 'pip install "latent-gemma[harness]"'
        ) from error
    options = list(config.options)
    if not options:
        raise ConfigError("there is nothing to evaluate", "give --model_args pretrained=RUN --tasks NAME")
    named = any(option.split("=")[0] in ("--model", "-M") for option in options)
    kept = sys.argv
    sys.argv = ["lm_eval", "run", *([] if named else ["--model", adapter.NAME]), *options]
    try:
        cli.cli_evaluate()
    except ValueError as error:
        if not str(error).startswith("Tasks not found"):
            raise
        raise ConfigError(str(error), "`lm_eval ls tasks` lists the known, --include_path adds a folder") from error
    finally:
        sys.argv = kept
