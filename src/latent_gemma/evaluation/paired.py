"""Two models on the same items: which of them is better, and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from latent_gemma.errors import DataError


@dataclass(frozen=True)
class PairedTest:
    """Exact McNemar test of two models on the same items.

    Args:
        both: items both answered correctly.
        first_only: items only the first answered correctly, usually called b.
        second_only: items only the second answered correctly, usually called c.
        neither: items none answered correctly.
        p_value: two-sided; how often a fair coin splits the b + c items at least as unevenly.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    p_value: float

    @property
    def total(self) -> int:
        """Items compared."""
        return self.both + self.first_only + self.second_only + self.neither

    def sentence(self, first: str, second: str, level: float = 0.05) -> str:
        """What the test says, in a sentence.

        Args:
            first: name of the first model.
            second: name of the second one.
            level: the p-value below which a difference counts as shown.

        Returns:
            The sentence.
        """
        split = f"{first} alone is right on {self.first_only}, {second} alone on {self.second_only}"
        figures = f"of {self.total} items {split} (exact McNemar, p = {self.p_value:.2g})"
        if self.p_value >= level:
            return f"No difference is shown between {first} and {second}: {figures}."
        better, worse = (first, second) if self.first_only > self.second_only else (second, first)
        return f"{better} is better than {worse}: {figures}."


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests so that all together are wrong no more often than one would be.

    Args:
        p_values: of the tests.

    Returns:
        The corrected ones in the same order: the smallest of m times m, the next times m - 1, ..., each at least as
        large as the one before it and at most 1.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    corrected, least, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        least = corrected[index] = min(1.0, max(least, (count - rank) * p_values[index]))
    return corrected


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Compare two models on the same items by the items where exactly one of them is right.

    Args:
        first: for each item whether the first model answered correctly.
        second: the same for the second model, in the same order.

    Returns:
        The four counts and the exact two-sided p-value, 1 where the models never differ. It is the binomial tail, not
        the chi-squared approximation, which fails for few items, and not the mid-p value, which is less strict and can
        exceed its level.

    Raises:
        DataError: if there is no item, or the numbers of items differ.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions".
    """
    if len(first) != len(second):
        raise DataError(f"{len(first)} items against {len(second)}", "compare two models on the same items")
    if len(first) == 0:
        raise DataError("there is no item to compare", "evaluate at least one")
    pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
    b, c = pairs.count((True, False)), pairs.count((False, True))
    return PairedTest(pairs.count((True, True)), b, c, pairs.count((False, False)), _two_sided(b, c))


def _two_sided(b: int, c: int) -> float:
    n = b + c
    ways = tail = 1
    for taken in range(min(b, c)):
        ways = ways * (n - taken) // (taken + 1)
        tail += ways
    # Whole numbers throughout: a float of 2**n ends at n = 1023.
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))
