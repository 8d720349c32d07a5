"""One greedy answer to each question of a batch, with what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latent_gemma.choices import NumThoughts
from latent_gemma.generation.answers import answer
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode, Written


@dataclass(frozen=True)
class Batch:
    """Answers to a batch of questions.

    Args:
        answers: one each.
        seconds: wall-clock time of the whole batch.
        thoughts: what was fed back, one tensor a question: [K, D], or [T, D] in recurrence "sequence".
        num_thoughts: K of each question.
    """

    answers: list[Written]
    seconds: float
    thoughts: list[Tensor]
    num_thoughts: list[int]


def answer_batch(
    model: LatentReasoningGemmaForCausalLM,
    frame: Frame,
    questions: Sequence[str],
    mode: Mode = "latent",
    num_thoughts: NumThoughts | Sequence[int] = 0,
    p: float | None = None,
    forced: Sequence[Tensor] | None = None,
    max_new_tokens: int = 256,
) -> Batch:
    """Answer questions greedily in one batch; `latent_gemma.generation.answers.answer` with one trace each.

    Args:
        model: a latent Gemma in evaluation mode.
        frame: its frame.
        questions: the questions.
        mode: see `answer`.
        num_thoughts: K; 0 answers at once. See `answer`.
        p: see `answer`.
        forced: see `answer`.
        max_new_tokens: see `answer`.

    Returns:
        The answers, the time they took and the thoughts.

    Raises:
        LatentGemmaError: see `answer`.
    """
    found = answer(model, frame, questions, mode, num_thoughts, p, forced, max_new_tokens=max_new_tokens)
    traces = [trace for (trace,) in found.traces]
    return Batch(
        [trace.written for trace in traces],
        found.seconds,
        [thought for (thought,) in found.thoughts],
        [trace.num_thoughts for trace in traces],
    )
