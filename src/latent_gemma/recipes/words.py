"""Which way a model is asked, and how it is told to write: the choices that several verbs share."""

from typing import Any

from latent_gemma.choices import AskedMode, Mode, WordsFormat
from latent_gemma.errors import ConfigError
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import own_mode
from latent_gemma.ranges import option


def writing_mode(latent: LatentConfig, asked: AskedMode) -> Mode:
    """The mode a model is asked in.

    Args:
        latent: its latent configuration.
        asked: as the user said.

    Returns:
        The mode; see `own_mode` for "auto".
    """
    return own_mode(latent) if asked == "auto" else asked


def ask_for(model: LatentReasoningGemmaForCausalLM, words_format: WordsFormat | None, system: str | None) -> None:
    """Change how a model is asked for its words.

    Args:
        model: the model.
        words_format: "markers" or "tags", for a model that was never trained here; None keeps the model's own.
        system: text before every question; None keeps the model's own.
    """
    own = model.config.latent.trained_for != "unknown"
    changes: dict[str, Any] = {"words_format": None if own else words_format, "system": system}
    model.set_latent(**{name: value for name, value in changes.items() if value is not None})


def refuse_thoughts(mode: Mode, **given: Any) -> None:
    """Refuse options about thoughts where there are none.

    Args:
        mode: a model is asked in.
        given: name of each such option -> its value.

    Raises:
        ConfigError: naming the first that says something.
    """
    for name, value in given.items():
        if mode != "latent" and value:
            raise ConfigError(
                f"{option(name)} with a model that is asked for {'words' if mode == 'words' else 'its answer alone'}",
                "leave it out, or ask a model that thinks, with --mode latent",
            )
