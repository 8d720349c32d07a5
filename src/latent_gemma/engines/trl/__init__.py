"""TRL: GRPO of words and of thoughts on torch."""
