"""latent-gemma: teach Gemma to reason, in words and in latent space, and prove what the reasoning is worth."""

from typing import Any

__all__ = ["LatentConfig", "LatentReasoningGemmaForCausalLM"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch and transformers takes seconds, and `latent-gemma --help` needs neither.
    if name in __all__:
        import latent_gemma.model

        return getattr(latent_gemma.model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
