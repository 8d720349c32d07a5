"""Confidence intervals: what a share of correct answers says about the model behind it."""

from math import sqrt

from latent_gemma.evaluation.results import EvalRow


def wilson_interval(correct: float, total: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a share; unlike the normal approximation it holds for few items and for 0 or 100 %.

    Args:
        correct: items answered correctly.
        total: items evaluated.
        z: normal quantile; the default gives 95 %.

    Returns:
        Lower and upper end, both in [0, 1].

    Raises:
        ValueError: if `total` is not positive or `correct` lies outside 0..total.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if total <= 0:
        raise ValueError(f"total must be positive, got {total}")
    if not 0 <= correct <= total:
        raise ValueError(f"correct must lie between 0 and {total}, got {correct}")
    share = correct / total
    spread = z * z / total
    center = (share + spread / 2) / (1 + spread)
    half = z * sqrt((share * (1 - share) + spread / 4) / total) / (1 + spread)
    # Rounding can leave the share an ulp outside its own interval at 0 and 1.
    return max(0.0, min(share, center - half)), min(1.0, max(share, center + half))


def intervals_apart(a: EvalRow, b: EvalRow) -> bool:
    """Whether the 95 % intervals of two rows do not overlap, a stricter test than p < 0.05.

    Args:
        a: one row.
        b: the other row.

    Returns:
        True if one interval ends below the start of the other.
    """
    return a.high < b.low or b.high < a.low
