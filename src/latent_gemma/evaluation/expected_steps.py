"""How many latent steps the written steps of an example ask for."""

from latent_gemma.data.example import Example
from latent_gemma.model.alignment import aligned_tokens
from latent_gemma.model.prompt import Frame


def expected_thoughts(example: Example, frame: Frame) -> int | None:
    """K that a model which learnt when to stop was taught for an example.

    Args:
        example: with its written steps.
        frame: the model's frame.

    Returns:
        As many as `aligned_tokens` says; None where the data has no steps.
    """
    if not example.steps:
        return None
    separator = frame.text_ids(frame.latent.step_separator)
    return sum(len(aligned_tokens(frame.text_ids(step), separator, frame.latent)) for step in example.steps)
