"""Several evaluations of the same questions side by side: cost, paired tests, and where the methods differ."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from latent_gemma.evaluation.items import Item
from latent_gemma.evaluation.paired import mcnemar
from latent_gemma.evaluation.results import Chart, EvalRow, Grid, Point
from latent_gemma.inspection.numbers import percent, with_interval

#: Below this p-value a difference counts as shown.
LEVEL = 0.05
SHOWN = 10


def cost_charts(mains: Mapping[str, EvalRow]) -> tuple[Chart, ...]:
    """Accuracy over what an answer costs, one point a method.

    Args:
        mains: method -> its main row.

    Returns:
        The charts over tokens and over seconds an answer.
    """
    unit = "Accuracy in %, with 95 % Wilson intervals"
    return (
        Chart(
            "accuracy_over_tokens", "Accuracy over tokens", "generated tokens an answer", unit,
            {label: (Point(row.tokens_per_answer, row.accuracy, row.low, row.high),) for label, row in mains.items()},
        ),
        Chart(
            "accuracy_over_seconds", "Accuracy over time", "seconds an answer, batched", unit,
            {label: (Point(row.seconds_per_answer, row.accuracy, row.low, row.high),) for label, row in mains.items()},
        ),
    )  # fmt: skip


def paired_grid(answers: Mapping[str, Sequence[Item]]) -> Grid | None:
    """Exact McNemar tests of every two methods.

    Args:
        answers: method -> its items, the same questions in the same order.

    Returns:
        The grid; None for a single method.
    """
    rows = []
    for first, second in combinations(answers, 2):
        test = mcnemar([item.correct for item in answers[first]], [item.correct for item in answers[second]])
        better = first if test.first_only > test.second_only else second
        said = better if test.p_value < LEVEL else "no difference shown"
        rows.append((f"{first} / {second}", str(test.first_only), str(test.second_only), f"{test.p_value:.2g}", said))
    if not rows:
        return None
    note = (
        "Items on which only one of the two is right, the exact two-sided McNemar p-value, and which one is better at "
        f"p < {LEVEL}; not corrected for the number of pairs."
    )
    return Grid("Paired tests", ("first / second", "only first", "only second", "p", "better"), tuple(rows), note)


def differences_grid(answers: Mapping[str, Sequence[Item]]) -> Grid | None:
    """Items on which the methods differ in being right.

    Args:
        answers: method -> its items, the same questions in the same order.

    Returns:
        The first ten such items, spread over the questions; None if there are none.
    """
    together = [group for group in zip(*answers.values(), strict=True) if len({item.correct for item in group}) > 1]
    step = max(1, len(together) // SHOWN)
    rows = tuple(
        (
            group[0].question,
            group[0].expected[0],
            *(f"{'✓' if item.correct else '✗'} {_brief(item.answer)}" for item in group),
        )
        for group in together[::step][:SHOWN]
    )
    note = f"{len(together)} of {len(next(iter(answers.values())))} questions are answered rightly by some only."
    return Grid("Where they differ", ("question", "expected", *answers), rows, note) if rows else None


def _brief(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def choice(mains: Mapping[str, EvalRow], answers: Mapping[str, Sequence[Item]]) -> str:
    """Which method to pick, in a sentence or two.

    Args:
        mains: method -> its main row.
        answers: method -> its items, the same questions in the same order.

    Returns:
        The most accurate method, and the cheapest one that is not shown to be worse.
    """
    best = max(mains, key=lambda label: mains[label].accuracy)
    right = {label: [item.correct for item in items] for label, items in answers.items()}
    equals = [label for label in mains if label == best or mcnemar(right[best], right[label]).p_value >= LEVEL]
    cheapest = min(equals, key=lambda label: mains[label].passes_per_answer)
    row = mains[best]
    sentence = f"{best} is the most accurate: {with_interval(row)} %, {row.passes_per_answer:.1f} passes an answer."
    if cheapest == best:
        return f"{sentence} Every cheaper method is shown to be worse." if len(mains) > 1 else sentence
    other = mains[cheapest]
    return (
        f"{sentence} {cheapest} is not shown to be worse ({percent(other.accuracy)} %) and needs "
        f"{other.passes_per_answer:.1f} passes: pick it."
    )
