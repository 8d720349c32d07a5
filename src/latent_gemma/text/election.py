"""Consensus voting over the answers of several traces, and what k traces are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb
from random import Random

from latent_gemma.text.answers import Match, answers_match, plain_spelling
from latent_gemma.text.quantities import whole_number

#: With more subsets of traces than this, maj@k is a mean over this many random ones.
MAX_SUBSETS = 500
#: Each answer is compared with this many different ones at most.
MAX_COMPARED = 16


@dataclass(frozen=True)
class Consensus:
    """The outcome of a vote.

    Args:
        answer: the winning answer as its most probable trace wrote it; None if every answer is missing.
        votes: traces that agree with it.
        total: traces that voted, those without an answer included.
        winner: index of that trace; None without a winner.
    """

    answer: str | None
    votes: int
    total: int
    winner: int | None

    @property
    def agreement(self) -> float:
        """Share of all traces that agree with the winner, 0 to 1."""
        return self.votes / self.total if self.total else 0.0


def ballot(answer: str | None) -> tuple[Fraction, str] | str | None:
    """What an answer counts as: its number and unit where it is one ("1,080", "18 eggs"), else its plainest spelling.

    Args:
        answer: an extracted answer, or None.

    Returns:
        The ballot; None for a missing or an empty answer.
    """
    if answer is None:
        return None
    number = whole_number(answer)
    return (number.values[0], number.rest) if number is not None else plain_spelling(answer) or None


def agree(answers: Sequence[str | None], match: Match = answers_match) -> list[str | None]:
    """Write answers that are equal alike.

    Args:
        answers: the extracted answer of each trace; None where none was found.
        match: whether an answer equals accepted ones; two answers are equal if each matches the other, or both equal a
            third. Of more than 16 different answers further ones are not compared.

    Returns:
        For each answer the first one given that is equal to it; None for a missing or an empty one.
    """
    ballots = [ballot(answer) for answer in answers]
    groups: dict[tuple[Fraction, str] | str, str] = {}
    for answer, key in zip(answers, ballots, strict=True):
        if answer is None or key is None or key in groups:
            continue
        others = list(dict.fromkeys(groups.values()))[:MAX_COMPARED]
        equal = [other for other in others if match(answer, [other]) and match(other, [answer])]
        groups[key] = answer
        # "18" joins "18 eggs", and "18 ducks" to both.
        groups = {ballot: equal[0] if name in (answer, *equal) and equal else name for ballot, name in groups.items()}
    return [None if key is None else groups[key] for key in ballots]


def vote(answers: Sequence[str | None], logprobs: Sequence[float], match: Match = answers_match) -> Consensus:
    """Elect the answer most traces agree on.

    Args:
        answers: the extracted answer of each trace; None where none was found.
        logprobs: mean log-probability of each trace's tokens, nats.
        match: which answers count together; see `agree`.

    Returns:
        The winner, as its most probable trace wrote it, of equally probable ones as the plainest did. A missing answer
        never wins; a tie goes to the answer whose traces have the higher mean log-probability, then to the one that
        came first.

    Source: Wang et al. 2022 (self-consistency, arXiv 2203.11171), section 2, unweighted majority. It differs in
        breaking ties by probability instead of arbitrarily.
    """
    return _elect(answers, agree(answers, match), logprobs, range(len(answers)))


def _elect(
    answers: Sequence[str | None], spelled: Sequence[str | None], logprobs: Sequence[float], voters: Sequence[int]
) -> Consensus:
    """The vote of some of the traces, given answers that are written alike where they are equal."""
    groups: dict[str, list[int]] = {}
    for index in voters:
        answer = spelled[index]
        if answer is not None:
            groups.setdefault(answer, []).append(index)
    if not groups:
        return Consensus(None, 0, len(voters), None)

    def strength(members: list[int]) -> tuple[int, float]:
        return len(members), sum(logprobs[i] for i in members) / len(members)

    members = max(groups.values(), key=strength)
    winner = max(members, key=lambda i: (logprobs[i], *_plainness(answers[i] or "")))
    return Consensus(answers[winner], len(members), len(voters), winner)


def _plainness(answer: str) -> tuple[bool, int]:
    return answer.isascii(), -len(answer)


def maj_at_k(answers: Sequence[str | None], logprobs: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """Probability that a vote of k traces, drawn from those at hand, is right.

    Args:
        answers: as for `vote`.
        logprobs: as for `vote`.
        correct: whether each trace is right.
        k: traces in a vote, 1 to their number.

    Returns:
        The mean over all subsets of k traces, or over 500 random ones (the same at every call) where there are more.
    """
    total = len(answers)
    if comb(total, k) <= MAX_SUBSETS:
        subsets = list(combinations(range(total), k))
    else:
        rng = Random(0)
        subsets = [tuple(sorted(rng.sample(range(total), k))) for _ in range(MAX_SUBSETS)]
    spelled = agree(answers)
    winners = [_elect(answers, spelled, logprobs, subset).winner for subset in subsets]
    return sum(winner is not None and correct[winner] for winner in winners) / len(subsets)


def pass_at_k(correct: int, total: int, k: int) -> float:
    """Probability that at least one of k traces, drawn from those at hand, is right.

    Args:
        correct: traces that are right.
        total: traces at hand.
        k: traces drawn, 1 to `total`.

    Returns:
        1 - C(total - correct, k) / C(total, k).

    Source: Chen et al. 2021 (Codex, arXiv 2107.03374), equation 1.
    """
    return 1.0 - comb(total - correct, k) / comb(total, k)
