"""Answers by consensus of several sampled traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import answer, check_temperatures
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode, own_mode
from latent_gemma.model.thinking import Steps
from latent_gemma.model.traces import Trace
from latent_gemma.text.answers import Match, answers_match, candidate, extract_answer
from latent_gemma.text.election import Consensus, vote

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
#: Far apart, so that no batch of one seed samples as a batch of a neighbouring seed does.
_BETWEEN_BATCHES = 1_000_003


@dataclass(frozen=True)
class VotedAnswer:
    """An answer by consensus.

    Args:
        consensus: the winning answer and how many agree with it.
        traces: every trace, in the order of the temperatures.
    """

    consensus: Consensus
    traces: tuple[Trace, ...]

    @property
    def answer(self) -> str | None:
        """The winning answer, None if no trace has one."""
        return self.consensus.answer

    @property
    def agreement(self) -> float:
        """Share of the traces that agree with it, 0 to 1."""
        return self.consensus.agreement


class Voter:
    """Answers questions by a vote of several sampled traces.

        voter = Voter(model, tokenizer)
        voter("Solve 24 + 15").answer

    Args:
        model: a latent Gemma, one that reasons in words or in thoughts.
        tokenizer: its tokenizer.
        temperatures: one trace each.
        traces: number of traces N; the temperatures are taken in turn. None takes one trace a temperature.
        mode: "latent", "words" or "none"; None takes what the model was trained for.
        num_thoughts: K in latent mode; "auto" draws it for each trace, None takes the model's own.
        noise_std: noise on each trace's thoughts, in units of their RMS, in latent mode.
        max_new_tokens: bound on generated tokens of a trace.
        seed: of the sampling.
        p: share of the token embedding in latent mode; None as configured.
        steps: takes single positions, to share what it keeps between batches; None makes its own.

    Raises:
        ConfigError: for no trace, or a negative temperature.
    """

    def __init__(
        self,
        model: LatentReasoningGemmaForCausalLM,
        tokenizer: Any,
        temperatures: Sequence[float] = TEMPERATURES,
        traces: int | None = None,
        mode: Mode | None = None,
        num_thoughts: NumThoughts | None = None,
        noise_std: float = 0.0,
        max_new_tokens: int = 256,
        seed: int = 0,
        p: float | None = None,
        steps: Steps | None = None,
    ) -> None:
        check_temperatures(temperatures)
        if traces is not None and traces < 1:
            raise ConfigError(f"a vote of {traces} traces", "give 1 or more")
        latent = model.config.latent
        self.model, self.frame = model.eval(), Frame(tokenizer, latent)
        self.temperatures = tuple(islice(cycle(temperatures), traces or len(temperatures)))
        self.mode: Mode = mode or own_mode(latent)
        own = latent.own_thoughts if num_thoughts is None else num_thoughts
        self.num_thoughts: NumThoughts = own if self.mode == "latent" else 0
        self.noise_std, self.max_new_tokens, self.seed, self.p = noise_std, max_new_tokens, seed, p
        self.steps = FastSteps(model) if steps is None else steps

    def __call__(self, question: str) -> VotedAnswer:
        """Answer one question."""
        return self.answer([question])[0]

    def answer(self, questions: Sequence[str], start: int = 0, match: Match = answers_match) -> list[VotedAnswer]:
        """Answer questions in one generation call.

        Args:
            questions: the questions.
            start: how many came before them: every batch has a seed of its own, whatever was sampled before it.
            match: which answers count together.

        Returns:
            The consensus and the traces of each.

        Raises:
            DataError: if a question is longer than the model allows.
        """
        with self.model.thinking(p=self.p, steps=self.steps):
            groups = answer(
                self.model, self.frame, questions, self.mode, self.num_thoughts, temperatures=self.temperatures,
                noise_std=self.noise_std, max_new_tokens=self.max_new_tokens,
                seed=self.seed + _BETWEEN_BATCHES * start,
            ).traces  # fmt: skip
        return [VotedAnswer(elect(traces, match), tuple(traces)) for traces in groups]


def elect(traces: Sequence[Trace], match: Match = answers_match) -> Consensus:
    """Hold the vote of a question's traces.

    Args:
        traces: the traces. One that was cut off before it gave its answer has no vote.
        match: which answers count together.

    Returns:
        The outcome.
    """
    return vote([vote_of(trace) for trace in traces], [trace.logprob for trace in traces], match)


def vote_of(trace: Trace) -> str | None:
    """The answer that a trace gives its vote to; None if it has none, or was cut off before it had given it."""
    text = trace.written.graded
    if not trace.written.finished and extract_answer(text, strict=True) is None:
        return None
    return candidate(text)
