"""Where the published files lie that some tests read; those tests skip where they are absent."""

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def published():
    """Path of a published file: published("gsm8k/train.jsonl")."""
    folder = Path(os.environ.get("LATENT_GEMMA_DATA", DEFAULT))

    def find(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is not here; set LATENT_GEMMA_DATA to the folder that holds it")
        return path

    return find
