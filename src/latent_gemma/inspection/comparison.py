"""Several evaluations of the same questions side by side: cost, paired tests, and where the methods differ."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from latent_gemma.evaluation.items import Item
from latent_gemma.evaluation.paired import holm, mcnemar
from latent_gemma.evaluation.results import Chart, EvalRow, Grid, Point, ThoughtTrace
from latent_gemma.inspection.numbers import percent

#: Below this p-value a difference counts as shown.
LEVEL = 0.05
#: A cheaper method may be this much less accurate, as a share, and still be picked.
MARGIN = 0.02
#: Items shown, and tokens shown of each of their latent steps.
SHOWN, TOP = 10, 3


def cost_charts(mains: Mapping[str, EvalRow]) -> tuple[Chart, ...]:
    """Accuracy over what an answer costs, one point a method.

    Args:
        mains: method -> its main row.

    Returns:
        The charts over passes and tokens, and over milliseconds where all were timed beside each other.
    """
    unit = "Accuracy in %, with 95 % Wilson intervals"

    def points(cost: Callable[[EvalRow], float]) -> dict[str, tuple[Point, ...]]:
        return {label: (Point(cost(row), row.accuracy, row.low, row.high),) for label, row in mains.items()}

    passes = points(lambda row: row.passes_per_answer)
    tokens = points(lambda row: row.tokens_per_answer)
    charts = (
        Chart(
            "accuracy_over_passes", "Accuracy over passes", "passes an answer, tokens and latent steps", unit, passes
        ),
        Chart("accuracy_over_tokens", "Accuracy over tokens", "generated tokens an answer", unit, tokens),
    )
    if not all(row.seconds_range for row in mains.values()):
        return charts
    time: dict[str, tuple[Point, ...]] = {
        label: (replace(point, x_range=(1000 * row.seconds_range[0], 1000 * row.seconds_range[1])),)
        for label, (point,) in points(lambda row: 1000 * (row.seconds_per_answer or 0.0)).items()
        if (row := mains[label]).seconds_range
    }
    name = "milliseconds an answer, batched; fastest to slowest of several turns"
    return (*charts, Chart("accuracy_over_seconds", "Accuracy over time", name, unit, time))


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


def best_grid(answers: Mapping[str, Sequence[Item]]) -> tuple[Grid, ...]:
    """Exact McNemar tests of every method against the most accurate one, corrected for their number.

    Args:
        answers: method -> its items.

    Returns:
        One grid; none for fewer than two methods, or where they were not asked the same questions.
    """
    asked = {tuple(item.question for item in items) for items in answers.values()}
    if len(answers) < 2 or len(asked) > 1:
        return ()
    right = {label: [item.correct for item in items] for label, items in answers.items()}
    best = max(right, key=lambda label: sum(right[label]))
    tests = {label: mcnemar(right[best], own) for label, own in right.items() if label != best}
    corrected = holm([test.p_value for test in tests.values()])
    rows = tuple(
        (
            label, str(test.first_only), str(test.second_only), f"{test.p_value:.2g}", f"{p_value:.2g}",
            "worse" if p_value < LEVEL else "no difference shown",
        )
        for (label, test), p_value in zip(tests.items(), corrected, strict=True)
    )  # fmt: skip
    note = (
        f"Items on which only {best} or only the other is right, the exact two-sided McNemar p-value, and the same "
        f"after Holm for {len(tests)} tests; worse: below {LEVEL} after it."
    )
    header = ("method", "only best", "only it", "p", "p, Holm", f"against {best}")
    return (Grid("Against the best", header, rows, note),)


def differing(answers: Mapping[str, Sequence[Item]]) -> list[tuple[Item, ...]]:
    """Items on which the methods differ in being right.

    Args:
        answers: method -> its items, the same questions in the same order.

    Returns:
        All such questions, one item a method each.
    """
    return [group for group in zip(*answers.values(), strict=True) if len({item.correct for item in group}) > 1]


def spread(groups: Sequence[tuple[Item, ...]]) -> Sequence[tuple[Item, ...]]:
    """At most ten of the groups, spread over all of them."""
    return groups[:: max(1, len(groups) // SHOWN)][:SHOWN]


def trace_item(label: str, item: Item, thoughts: Mapping[str, ThoughtTrace]) -> ThoughtTrace:
    """A logged item with the thoughts that were read again.

    Args:
        label: the method, as the report calls it.
        item: from the log.
        thoughts: question -> its trace; may lack this one.

    Returns:
        The item's own answer, with the steps of the trace if that led to the same answer: else they are not the
        thoughts behind what was logged.
    """
    read = thoughts.get(item.question)
    steps = read.steps if read is not None and read.answer == item.answer else ()
    short = tuple(replace(step, tokens=step.tokens[:TOP], probabilities=step.probabilities[:TOP]) for step in steps)
    return ThoughtTrace(label, item.question, item.expected[0], item.answer, item.correct, short, item.reasoning)


def choose(
    mains: Mapping[str, EvalRow], answers: Mapping[str, Sequence[Item]], unused: Container[str] = ()
) -> tuple[str, str]:
    """Which method to pick and why.

    Args:
        mains: method -> its main row.
        answers: method -> its items, the same questions in the same order.
        unused: methods that were shown not to use their thoughts.

    Returns:
        The most accurate method; or, where others tie with it (neither shown to be worse nor more than two points
        below: with few questions a difference that matters is often not shown), which of them are the cheapest; and
        the reason.
    """
    best = max(mains, key=lambda label: (mains[label].accuracy, -mains[label].passes_per_answer))
    right = {label: [item.correct for item in items] for label, items in answers.items()}
    chances = {label: mcnemar(right[best], right[label]).p_value for label in mains}
    near = [label for label in mains if chances[label] >= LEVEL and _points(mains[best], mains[label]) <= MARGIN]
    pick = min(near, key=lambda label: mains[label].passes_per_answer)
    row = mains[pick]
    unheard = " But it is not using its thoughts: fewer latent steps may do as well." if pick in unused else ""
    found = f"Right on {percent(row.accuracy)} % of {row.total // max(1, len(row.by_seed))} questions"
    found += f", mean of {len(row.by_seed)} seeds" if len(row.by_seed) > 1 else ""
    others = [label for label in mains if label != pick]
    if not others:
        return f"{pick} alone was measured", f"{found}, {_cost(row)} an answer."
    if len(near) > 1:
        cheapest = [label for label in near if _cost(mains[label]) == _cost(row)]
        named = f"{', '.join(cheapest[:-1])} and {cheapest[-1]} are" if len(cheapest) > 1 else f"{pick} is"
        tying = [f"{label} ({percent(mains[label].accuracy)} %, {_cost(mains[label])})" for label in near]
        lowest = min(chances[label] for label in near)
        return f"A tie: {named} the cheapest", (
            f"{found}, and an answer takes {_cost(row)}. These are not told apart: {', '.join(tying)}; against {best} "
            f"the exact McNemar p of each is {'1' if lowest == 1 else f'at least {lowest:.2g}'}.{unheard}"
        )
    second = max(others, key=lambda label: mains[label].accuracy)
    none_cheaper = all(mains[label].passes_per_answer >= row.passes_per_answer for label in others)
    reason = (
        f"{found}, against {percent(mains[second].accuracy)} % for {second}, the next best "
        f"({_chance(chances[second])}); {_cost(row)} an answer{', and no method is cheaper' if none_cheaper else ''}."
    )
    if chances[second] >= LEVEL:
        reason += " The difference could be chance: more questions would tell."
    return f"Pick {pick}", reason + unheard


def _chance(p_value: float) -> str:
    return f"exact McNemar p = {p_value:.2g}"


def _points(best: EvalRow, other: EvalRow) -> float:
    return best.accuracy - other.accuracy


def _cost(row: EvalRow) -> str:
    return f"{row.passes_per_answer:.1f} passes"
