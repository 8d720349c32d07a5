"""Which way a model is asked, and how it is told to write: the choices that several verbs share."""

from typing import Any, Literal

from latent_gemma.model.config import LatentConfig, WordsFormat
from latent_gemma.model.prompt import Mode, own_mode


def writing_mode(latent: LatentConfig, asked: Literal["auto", "latent", "words"]) -> Mode:
    """The mode a model is asked in.

    Args:
        latent: its latent configuration.
        asked: as the user said; "auto" thinks if the model was trained to, and writes its reasoning otherwise.

    Returns:
        "latent" or "words".
    """
    return own_mode(latent) if asked == "auto" else asked


def ask_for(model: Any, words_format: WordsFormat | None, system: str | None) -> None:
    """Change how a model is asked for its words.

    Args:
        model: the model.
        words_format: "markers" or "tags"; None keeps the model's own.
        system: text before every question; None keeps the model's own.
    """
    changes: dict[str, Any] = {"words_format": words_format, "system": system}
    model.set_latent(**{name: value for name, value in changes.items() if value is not None})
