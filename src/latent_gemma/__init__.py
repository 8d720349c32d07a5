"""latent-gemma: teach Gemma to reason, in words and in latent space, and prove what the reasoning is worth.

Importing it makes transformers' Auto classes know the latent ones.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

#: public name -> module it lives in
_HOMES = {
    "LatentConfig": "latent_gemma.model",
    "LatentReasoningGemmaForCausalLM": "latent_gemma.model",
    "Voter": "latent_gemma.evaluation.voting",
}
__all__ = ["LatentConfig", "LatentReasoningGemmaForCausalLM", "Voter"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The command loads torch and transformers, which takes seconds, when a verb needs them: its help does not.
if Path(sys.argv[0]).stem != "latent-gemma" and "latent_gemma.cli" not in sys.orig_argv:
    importlib.import_module("latent_gemma.compat")
