"""latent-gemma: teach Gemma to reason, in words and in latent space, and prove what the reasoning is worth."""

import importlib
from typing import Any

#: public name -> module it lives in
_HOMES = {
    "LatentConfig": "latent_gemma.model",
    "LatentReasoningGemmaForCausalLM": "latent_gemma.model",
    "Voter": "latent_gemma.evaluation.voting",
}
__all__ = ["LatentConfig", "LatentReasoningGemmaForCausalLM", "Voter"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch and transformers takes seconds, and `latent-gemma --help` needs neither.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
