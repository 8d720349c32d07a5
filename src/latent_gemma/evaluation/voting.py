"""Answers by consensus, and what consensus is worth: maj@k and pass@k beside a single greedy pass."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.model.packing import Packing
from latent_gemma.model.prompt import Frame, Mode, own_mode
from latent_gemma.model.traces import Trace, check_temperatures, sample_traces
from latent_gemma.text.answers import candidate, grade
from latent_gemma.text.voting import Consensus, maj_at_k, pass_at_k, vote

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


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
        mode: "latent" or "words"; None thinks if the model was trained to.
        num_thoughts: K in latent mode; None takes the model's own.
        noise_std: noise on each trace's thoughts, in units of their RMS, in latent mode.
        max_new_tokens: bound on generated tokens of a trace.
        seed: of the sampling.

    Raises:
        ConfigError: for no trace, or a negative temperature.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        temperatures: Sequence[float] = TEMPERATURES,
        traces: int | None = None,
        mode: Mode | None = None,
        num_thoughts: int | None = None,
        noise_std: float = 0.0,
        max_new_tokens: int = 256,
        seed: int = 0,
    ) -> None:
        check_temperatures(temperatures)
        if traces is not None and traces < 1:
            raise ConfigError(f"a vote of {traces} traces", "give 1 or more")
        latent = model.config.latent
        self.model, self.frame = model.eval(), Frame(tokenizer, latent)
        self.temperatures = tuple(islice(cycle(temperatures), traces or len(temperatures)))
        self.mode: Mode = mode or own_mode(latent)
        own = latent.num_thoughts if num_thoughts is None else num_thoughts
        self.num_thoughts = own if self.mode == "latent" else 0
        self.noise_std, self.max_new_tokens, self.seed = noise_std, max_new_tokens, seed
        self.packing = Packing(model)

    def __call__(self, question: str) -> VotedAnswer:
        """Answer one question."""
        return self.answer([question])[0]

    def answer(self, questions: Sequence[str]) -> list[VotedAnswer]:
        """Answer questions in one generation call.

        Args:
            questions: the questions.

        Returns:
            The consensus and the traces of each.

        Raises:
            DataError: if a question is longer than the model allows.
        """
        with self.packing.active():
            groups = sample_traces(
                self.model, self.frame, questions, self.temperatures, self.mode, self.num_thoughts, self.noise_std,
                self.max_new_tokens, self.seed,
            )  # fmt: skip
        return [VotedAnswer(elect(traces), tuple(traces)) for traces in groups]


def elect(traces: Sequence[Trace]) -> Consensus:
    """Hold the vote of a question's traces."""
    return vote([candidate(trace.written.graded) for trace in traces], [trace.logprob for trace in traces])


@dataclass(frozen=True)
class VoteMeasured:
    """What a vote is worth over a data set.

    Args:
        row: the vote of all N traces, costs summed over them.
        maj: maj@k for k = 1 .. N, shares.
        passes: pass@k for k = 1 .. N, shares.
        agreement: mean share of traces that agree with the winner.
        traces: mean over single traces: lenient and strict accuracy, format compliance, shares.
        answers: every vote.
    """

    row: EvalRow
    maj: tuple[float, ...]
    passes: tuple[float, ...]
    agreement: float
    traces: tuple[float, float, float]
    answers: list[VotedAnswer]


def measure_vote(voter: Voter, examples: Sequence[Example], label: str, batch_size: int = 16) -> VoteMeasured:
    """Answer every example by a vote, and count what fewer traces would have given.

    Args:
        voter: how to vote.
        examples: the questions, never ones the model was trained on.
        label: the method's name in tables.
        batch_size: questions in one generation call; N times as many rows.

    Returns:
        What was measured. An answer by vote counts as right if its most probable trace does.
    """
    answers: list[VotedAnswer] = []
    started = time.perf_counter()
    for start in range(0, len(examples), batch_size):
        answers += voter.answer([example.question for example in examples[start : start + batch_size]])
    seconds = time.perf_counter() - started
    total, count = len(examples), len(voter.temperatures)
    correct = strict = complete = 0
    maj, passes, singles = [0.0] * count, [0.0] * count, [0, 0, 0]
    for voted, example in zip(answers, examples, strict=True):
        grades = [grade(trace.written.graded, example.answers) for trace in voted.traces]
        right = [one.lenient for one in grades]
        ballots = [candidate(trace.written.graded) for trace in voted.traces]
        logprobs = [trace.logprob for trace in voted.traces]
        for k in range(1, count + 1):
            maj[k - 1] += maj_at_k(ballots, logprobs, right, k) / total
            passes[k - 1] += pass_at_k(sum(right), count, k) / total
        winner = voted.consensus.winner
        if winner is not None:
            correct, strict = correct + right[winner], strict + grades[winner].strict
            complete += voted.traces[winner].written.complete
        singles[0] += sum(right)
        singles[1] += sum(one.strict for one in grades)
        singles[2] += sum(trace.written.complete for trace in voted.traces)
    low, high = wilson_interval(correct, total)
    written = [trace.written for voted in answers for trace in voted.traces]
    tokens = sum(one.tokens for one in written) / total
    row = EvalRow(
        label=label,
        k=voter.num_thoughts,
        p=voter.model.config.latent.p if voter.num_thoughts else None,
        control="none",
        correct=correct,
        strict=strict,
        total=total,
        low=low,
        high=high,
        tokens_per_answer=tokens,
        passes_per_answer=tokens + count * voter.num_thoughts,
        seconds_per_answer=seconds / total,
        complete=complete if voter.mode == "words" else None,
        truncated=sum(not any(trace.written.finished for trace in voted.traces) for voted in answers),
    )
    lenient, exact, shaped = (single / (total * count) for single in singles)
    return VoteMeasured(
        row, tuple(maj), tuple(passes), sum(voted.agreement for voted in answers) / total, (lenient, exact, shaped),
        answers,
    )  # fmt: skip
