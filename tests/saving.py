"""A tiny model as the directory that verbs take."""

from pathlib import Path

from latent_gemma.model.tiny import build_tiny, build_tokenizer


def save_tiny(folder, family="gemma2", latent=None, **sizes):
    """Write a tiny model and its tokenizer into a folder, which is made if missing; see `build_tiny`."""
    build_tiny(family, latent, **sizes).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return Path(folder)
