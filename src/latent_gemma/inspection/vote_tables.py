"""What votes are worth, as tables and as charts."""

from collections.abc import Mapping, Sequence

from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.results import Chart, EvalRow, Grid, Point
from latent_gemma.evaluation.vote_rows import VoteMeasured
from latent_gemma.inspection.numbers import percent


def votes_grids(votes: Mapping[str, VoteMeasured]) -> tuple[Grid, ...]:
    """One line a method: its single traces and maj@k, and pass@k.

    Args:
        votes: method -> what its vote was worth; all with the same number of traces N, at least one method.

    Returns:
        The grids; of more than 8 values of k only 1, 2, 4, .. and N are shown.
    """
    count = len(next(iter(votes.values())).maj)
    shown = [k for k in range(1, count + 1) if count <= 8 or k == count or k & (k - 1) == 0]
    maj = tuple(
        (
            label,
            *(percent(share) for share in vote.traces),
            *(percent(vote.maj[k - 1]) for k in shown),
            percent(vote.agreement),
        )
        for label, vote in votes.items()
    )
    passes = tuple((label, *(percent(vote.passes[k - 1]) for k in shown)) for label, vote in votes.items())
    traces = f"All in %, over {count} sampled traces a question"
    return (
        Grid(
            "Consensus: maj@k, a vote of k traces",
            ("method", "trace", "strict", "format", *map(str, shown), "agree"),
            maj,
            f"{traces}. trace, strict, format: means over single traces (accuracy, accuracy of the marked answer, "
            "right format); agree: mean share of traces that agree with the winner of all.",
        ),
        Grid(
            "Coverage: pass@k, at least one of k traces is right",
            ("method", *map(str, shown)),
            passes,
            f"{traces}. No vote can do better than this.",
        ),
    )


def votes_charts(votes: Mapping[str, VoteMeasured], single: Mapping[str, EvalRow]) -> tuple[Chart, ...]:
    """maj@k and pass@k over k.

    Args:
        votes: method -> what its vote was worth.
        single: method -> its single greedy pass, drawn at 0 traces.

    Returns:
        The charts; bands are the Wilson intervals of that many questions.
    """
    maj, passes = {}, {}
    for label, vote in votes.items():
        row = single[label]
        greedy = (Point(0, row.accuracy, row.low, row.high),)
        maj[label] = greedy + _points(vote.maj, row.total)
        passes[label] = _points(vote.passes, row.total)
    unit = "in %, with 95 % Wilson intervals"
    return (
        Chart("maj_at_k", "Accuracy of a vote", "k, traces in the vote (0: one greedy pass)", f"maj@k {unit}", maj),
        Chart("pass_at_k", "At least one trace is right", "k, traces", f"pass@k {unit}", passes),
    )


def _points(shares: Sequence[float], total: int) -> tuple[Point, ...]:
    return tuple(
        Point(k, share, *wilson_interval(round(share * total), total)) for k, share in enumerate(shares, start=1)
    )
