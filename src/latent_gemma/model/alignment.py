"""Which token of a written step each thought stands on."""

from collections.abc import Sequence

from latent_gemma.model.config import LatentConfig


def aligned_tokens(step: Sequence[int], separator: Sequence[int], latent: LatentConfig) -> list[int | None]:
    """The tokens that the thoughts of one written step are to say.

    Args:
        step: its token ids.
        separator: those of what follows each written step.
        latent: says how many thoughts a step has.

    Returns:
        One token a thought, in order. With a number c for `c_thought` the last c tokens of the step (None for the first
        thoughts of a shorter one), the separator left out; with "tokens" every token, the separator's included; with
        `thoughts_per_token` below 1, n tokens of a step, the separator left out, have ceil(n * share) thoughts, which
        divide them evenly, each on the last token it stands for.
    """
    if latent.c_thought != "tokens":
        tail = step[-latent.c_thought :]
        return [None] * (latent.c_thought - len(tail)) + [*tail]
    if latent.thoughts_per_token == 1.0:
        return [*step, *separator]
    # a share such as 0.07 must not round up to one thought too many
    count = -int(-(len(step) * latent.thoughts_per_token - 1e-9) // 1)
    return [step[-(-(place + 1) * len(step) // count) - 1] for place in range(count)]
