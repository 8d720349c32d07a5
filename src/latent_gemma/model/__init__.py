"""The heart: latent configuration, feedback, rollout and the Gemma classes."""

import logging

from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM, register
from latent_gemma.model.thinking import Thinking, ThoughtRecord
from latent_gemma.versions import untested

register()
for _line in untested():
    logging.getLogger("latent_gemma").warning(_line)

__all__ = ["LatentConfig", "LatentReasoningGemmaForCausalLM", "Thinking", "ThoughtRecord"]
