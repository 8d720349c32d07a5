"""The heart: latent configuration, feedback, rollout and the Gemma classes."""

from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM, register
from latent_gemma.model.thinking import Thinking, ThoughtRecord

register()

__all__ = ["LatentConfig", "LatentReasoningGemmaForCausalLM", "Thinking", "ThoughtRecord"]
