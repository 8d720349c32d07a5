"""Which way a model is asked, and how it is told to write: the choices that several verbs share."""

from typing import Any

from latent_gemma.choices import AskedMode, Mode, WordsFormat
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import own_mode


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
