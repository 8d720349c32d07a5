"""Several ways to answer one question, explored in one batch; the most confident one wins."""

from dataclasses import dataclass
from typing import Any

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.generation.answers import answer
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode, own_mode


@dataclass(frozen=True)
class AnswerPath:
    """One explored answer.

    Args:
        answer: its text.
        confidence: see `Trace`.
    """

    answer: str
    confidence: float


def explore_paths(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    question: str,
    k: int,
    max_length: int,
    num_thoughts: NumThoughts | None = None,
    mode: Mode | None = None,
    noise_std: float = 0.0,
    dropout: float = 0.0,
    temperature: float = 0.0,
) -> list[AnswerPath]:
    """Answer a question k times, each time beginning with another first token.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        question: the question as a person would ask it.
        k: number of paths.
        max_length: length of prompt and answer together, tokens.
        num_thoughts: K, or "auto"; None takes the model's own.
        mode: None takes what the model was trained for; in "words" a path begins with its reasoning, and its confidence
            is that of reasoning and answer.
        noise_std: Gaussian noise on each path's latents, in units of their RMS.
        dropout: share of each path's latent components set to zero.
        temperature: 0 decodes each path greedily after its first token, more samples.

    Returns:
        The paths, the most confident first.

    Raises:
        ConfigError: for k outside 1 .. vocabulary size.
        DataError: if the question is longer than the model allows.

    Source: Wang and Zhou 2024 (chain-of-thought decoding, arXiv 2402.10200), section 2.2, equation 1. It differs in the
    token that a path begins with: there it is none of the answer's; here, where it is, the margin would be the same for
    all paths, and each counts the probability of its own.
    """
    if not 1 <= k <= model.config.vocab_size:
        raise ConfigError(f"k is {k}", f"explore between 1 and {model.config.vocab_size} first tokens")
    latent = model.config.latent
    frame, mode = Frame(tokenizer, latent), mode or own_mode(latent)
    thoughts = latent.own_thoughts if num_thoughts is None else num_thoughts
    length = len(frame.prompt(question, mode, thoughts))
    with model.thinking(dropout=dropout):
        found = answer(
            model, frame, [question], mode, thoughts, temperatures=[temperature] * k, noise_std=noise_std,
            max_new_tokens=max(max_length - length, 1), branches=True,
        )  # fmt: skip
    paths = [AnswerPath(trace.written.answer, trace.confidence or 0.0) for trace in found.traces[0]]
    return sorted(paths, key=lambda path: -path.confidence)
