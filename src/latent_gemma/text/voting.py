"""Consensus voting over the answers of several traces, and what k traces are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb
from random import Random

from latent_gemma.text.answers import Match, plain_spelling
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


def ballot(answer: str | None) -> Fraction | str | None:
    """What an answer counts as: its number where it is one ("1,080", "18 eggs", "0.5"), else its plainest spelling.

    Args:
        answer: an extracted answer, or None.

    Returns:
        The ballot; None for a missing or an empty answer.
    """
    if answer is None:
        return None
    number = whole_number(answer)
    return number.values[0] if number is not None else plain_spelling(answer) or None


def agree(answers: Sequence[str | None], match: Match | None = None) -> list[str | None]:
    """Write answers that are equal alike.

    Args:
        answers: the extracted answer of each trace; None where none was found.
        match: whether an answer equals accepted ones; two answers are equal if each matches the other. None compares
            ballots alone. Of more than 16 different answers further ones are not compared.

    Returns:
        For each answer the first one given that is equal to it; None for a missing or an empty one. What equals an
        answer that equals a third counts as equal to it too.
    """
    groups: dict[Fraction | str, str] = {}
    spelled: list[str | None] = []
    for answer in answers:
        key = ballot(answer)
        if answer is None or key is None:
            spelled.append(None)
            continue
        if key not in groups:
            others = list(dict.fromkeys(groups.values()))[:MAX_COMPARED] if match is not None else []
            equal = (other for other in others if match and match(answer, [other]) and match(other, [answer]))
            groups[key] = next(equal, answer)
        spelled.append(groups[key])
    return spelled


def vote(answers: Sequence[str | None], logprobs: Sequence[float], match: Match | None = None) -> Consensus:
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
    groups: dict[str, list[int]] = {}
    for index, answer in enumerate(agree(answers, match)):
        if answer is not None:
            groups.setdefault(answer, []).append(index)
    if not groups:
        return Consensus(None, 0, len(answers), None)

    def strength(members: list[int]) -> tuple[int, float]:
        return len(members), sum(logprobs[i] for i in members) / len(members)

    members = max(groups.values(), key=strength)
    winner = max(members, key=lambda i: (logprobs[i], *_plainness(answers[i] or "")))
    return Consensus(answers[winner], len(members), len(answers), winner)


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
    right = 0
    for subset in subsets:
        winner = vote([answers[i] for i in subset], [logprobs[i] for i in subset]).winner
        right += winner is not None and correct[subset[winner]]
    return right / len(subsets)


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
