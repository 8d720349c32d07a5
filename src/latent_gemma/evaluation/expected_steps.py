"""How many latent steps the written steps of an example ask for."""

from math import ceil

from latent_gemma.data.example import Example
from latent_gemma.model.prompt import Frame


def expected_thoughts(example: Example, frame: Frame) -> int | None:
    """K that a model which learnt when to stop was taught for an example.

    Args:
        example: with its written steps.
        frame: the model's frame.

    Returns:
        `c_thought` for each step; under c_thought "tokens" one for each token of the steps, separators included, or,
        compressed, `thoughts_per_token` of each step's own tokens, rounded up. None where the data has no steps.
    """
    latent = frame.latent
    if not example.steps:
        return None
    if latent.c_thought != "tokens":
        return len(example.steps) * latent.c_thought
    lengths = [len(frame.text_ids(step)) for step in example.steps]
    if latent.thoughts_per_token < 1.0:
        # a share such as 0.07 must not round up to one thought too many
        return sum(ceil(length * latent.thoughts_per_token - 1e-9) for length in lengths)
    return sum(lengths) + len(lengths) * len(frame.text_ids(latent.step_separator))
