"""One sampled answer of several to a question."""

from dataclasses import dataclass

from latent_gemma.model.prompt import Written


@dataclass(frozen=True)
class Trace:
    """One sampled answer.

    Args:
        written: its reasoning and answer.
        logprob: mean log-probability of its tokens under the model itself (temperature 1), nats.
        temperature: it was sampled at; 0 is greedy.
        num_thoughts: K, latent steps it took before its answer.
        confidence: mean over its tokens, 0 to 1: of the first its probability, of the others the margin between the two
            most probable ones; None where not measured.
    """

    written: Written
    logprob: float
    temperature: float
    num_thoughts: int = 0
    confidence: float | None = None
