"""Numbers as people read them: rounded the same way in tables, sentences and cards."""

from latent_gemma.evaluation.results import EvalRow


def percent(share: float) -> str:
    """A share as a percentage with one decimal and without its sign: 0.981 -> "98.1".

    Args:
        share: 0 to 1.

    Returns:
        The percentage.
    """
    return f"{100 * share:.1f}"


def with_interval(row: EvalRow) -> str:
    """Accuracy of a row in percent with its 95 % interval: "98.1 [96.5–99.0]", "100.0 [99.2–100]".

    Of several seeds it is the mean with its standard deviation over them: "98.7 ± 0.4 (3 seeds)".

    Args:
        row: the row.

    Returns:
        The text, without a percent sign.
    """
    if row.seed_sd is not None:
        return f"{percent(row.accuracy)} ± {percent(row.seed_sd)} ({len(row.by_seed)} seeds)"
    return f"{percent(row.accuracy)} {interval(row)}"


def interval(row: EvalRow) -> str:
    """The 95 % interval of a row's accuracy over questions, in percent: "[96.5–99.0]"."""
    high = "100" if row.correct == row.total else percent(row.high)
    return f"[{percent(row.low)}–{high}]"


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with three digits that matter: 0.0123 -> "12.3", 1.5 -> "1,500".

    Args:
        seconds: a duration.

    Returns:
        The number without its unit.
    """
    ms = 1000 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.2g}"
