"""What consensus is worth over a data set: maj@k and pass@k beside a single pass."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from latent_gemma.data.example import Example
from latent_gemma.evaluation.items import Cost, Item, Setting, TraceItem, is_marked
from latent_gemma.evaluation.log import ItemLog, Progress, answer_missing
from latent_gemma.evaluation.peak_memory import peak_gib, reset_peak
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.evaluation.row_counts import count_row
from latent_gemma.evaluation.voting import VotedAnswer, Voter, vote_of
from latent_gemma.text.answers import Match, answers_match, grade
from latent_gemma.text.election import agree, maj_at_k, pass_at_k, vote
from latent_gemma.text.language import AnswerLanguage, ask_in, wanted_language

#: What a voted method is called, behind the name of its single pass.
VOTED = ", vote"


@dataclass(frozen=True)
class VoteMeasured:
    """What a vote is worth over a data set.

    Args:
        row: the vote of all N traces, costs summed over them.
        maj: maj@k for k = 1 .. N, shares.
        passes: pass@k for k = 1 .. N, shares.
        agreement: mean share of traces that agree with the winner.
        traces: mean over single traces: lenient and strict accuracy, format compliance, shares.
        items: every vote with its traces.
    """

    row: EvalRow
    maj: tuple[float, ...]
    passes: tuple[float, ...]
    agreement: float
    traces: tuple[float, float, float]
    items: list[Item]


def measure_vote(
    voter: Voter,
    examples: Sequence[Example],
    label: str,
    batch_size: int = 16,
    match: Match = answers_match,
    answer_language: AnswerLanguage = "same",
    log: ItemLog | None = None,
    progress: Progress | None = None,
) -> VoteMeasured:
    """Answer every example by a vote, and count what fewer traces would have given.

    Args:
        voter: how to vote.
        examples: the questions, never ones the model was trained on.
        label: the method's name in tables.
        batch_size: questions in one generation call; N times as many rows.
        match: how answers are compared, with the accepted ones and for the vote with each other.
        answer_language: what the answers should be in.
        log: what is finished already, and where what gets finished is kept; None answers everything anew.
        progress: told how many traces have been generated.

    Returns:
        What was measured. An answer by vote counts as right if its most probable trace does.
    """
    own = voter.model.config.latent.p if voter.p is None else voter.p
    setting = Setting(label, voter.num_thoughts, own if voter.num_thoughts else None, mode=voter.mode)

    def answer(indices: Sequence[int]) -> list[Item]:
        batch = [examples[index] for index in indices]
        reset_peak(voter.model.device)
        started = time.perf_counter()
        voted = voter.answer([ask_in(example.question, answer_language) for example in batch], indices[0], match)
        seconds = (time.perf_counter() - started) / len(batch)
        cost = Cost(seconds, peak_gib(voter.model.device), voter.frame.latent.passes_bound)
        return [
            _vote_item(
                setting, index, example, wanted_language(example.question, example.language, answer_language), one,
                match, cost,
            )
            for index, example, one in zip(indices, batch, voted, strict=True)
        ]  # fmt: skip

    def told(answered: int) -> None:
        if progress is not None:
            progress(answered * len(voter.temperatures))

    # `log or` would take an empty log for none.
    log = ItemLog() if log is None else log
    return count_votes(answer_missing(log, setting, examples, batch_size, answer, told))


def _vote_item(
    setting: Setting, index: int, example: Example, wanted: str, voted: VotedAnswer, match: Match, cost: Cost
) -> Item:
    grades = [grade(trace.written.graded, example.answers, match) for trace in voted.traces]
    # Written alike, equal answers are counted together again without asking the grader.
    ballots = agree([vote_of(trace) for trace in voted.traces], match)
    traces = tuple(
        TraceItem(
            trace.written.answer, trace.written.reasoning, ballot, trace.logprob, trace.temperature, one.lenient,
            one.strict, trace.written.complete, trace.written.tokens, trace.written.finished,
        )
        for trace, ballot, one in zip(voted.traces, ballots, grades, strict=True)
    )  # fmt: skip
    winner = voted.consensus.winner
    won = None if winner is None else traces[winner]
    return Item(
        **asdict(setting), index=index, question=example.question, language=example.language, wanted=wanted,
        expected=example.answers, answer=voted.answer or "", reasoning=won.reasoning if won else "",
        extracted=voted.answer, marked=winner is not None and is_marked(voted.traces[winner].written),
        correct=won is not None and won.correct, strict=won is not None and won.strict,
        complete=(won is not None and won.complete) if setting.mode == "words" else None,
        tokens=sum(trace.tokens for trace in traces), latent_steps=sum(trace.num_thoughts for trace in voted.traces),
        finished=any(trace.finished for trace in traces), seconds=cost.seconds, peak_mem_gib=cost.peak_mem_gib,
        traces=traces, parallel_passes=cost.parallel_passes,
    )  # fmt: skip


def count_votes(items: list[Item]) -> VoteMeasured:
    """Count what votes are worth.

    Args:
        items: of votes of N traces each, at least one.

    Returns:
        The row, maj@k, pass@k and agreement.
    """
    total, count = len(items), len(items[0].traces)
    maj, passes, agreement = [0.0] * count, [0.0] * count, 0.0
    for item in items:
        ballots, right = [trace.ballot for trace in item.traces], [trace.correct for trace in item.traces]
        logprobs = [trace.logprob for trace in item.traces]
        agreement += vote(ballots, logprobs).agreement / total
        for k in range(1, count + 1):
            maj[k - 1] += maj_at_k(ballots, logprobs, right, k) / total
            passes[k - 1] += pass_at_k(sum(right), count, k) / total
    traces = [trace for item in items for trace in item.traces]
    lenient, exact, shaped = (
        sum(getattr(trace, name) for trace in traces) / len(traces) for name in ("correct", "strict", "complete")
    )
    row = count_row(items, {f"pass_at_{count}": passes[-1], "agreement": agreement})
    return VoteMeasured(row, tuple(maj), tuple(passes), agreement, (lenient, exact, shaped), items)
