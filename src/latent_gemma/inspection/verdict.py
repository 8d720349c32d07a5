"""Rows turned into honest sentences: does a model use its thoughts, and do they pay?"""

from collections.abc import Iterable, Mapping, Sequence

from latent_gemma.evaluation.intervals import intervals_apart
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.evaluation.vote_rows import VOTED
from latent_gemma.inspection.numbers import percent, with_interval
from latent_gemma.inspection.select import (
    CONTROL_NAMES,
    NO_REASONING,
    WORDS,
    control_rows,
    is_trained_pause,
    main_rows,
)

#: The controls that decide, in order. The thoughts of another question are thoughts as the model knows them, with other
#: content; zeros it has never seen. Noise can hurt a model that ignores the content of its thoughts.
DECIDING = ("swap", "zero")
#: From this donor rate on what the thoughts carry is said to be the answer itself.
CARRIED = 0.5
#: From this share on answers that were cut off are told of; a few go on for ever under any bound.
CUT = 0.1


def uses_thoughts(rows: Sequence[EvalRow], main: EvalRow) -> bool | None:
    """Whether taking the thoughts away costs accuracy.

    Args:
        rows: the rows of a report.
        main: the main row of a label.

    Returns:
        True if swapped and zeroed thoughts both bring accuracy down past overlapping 95 % intervals, False if either
        does not, None if neither was measured, or of a trained pause, which has no thoughts.
    """
    if is_trained_pause(main.label):
        return None
    found = control_rows(rows, main)
    decided = [found[name].high < main.low for name in DECIDING if name in found]
    return all(decided) if decided else None


def thoughts_clause(rows: Sequence[EvalRow], main: EvalRow) -> str:
    """What the controls of one label say.

    Args:
        rows: the rows of a report.
        main: the main row of a latent label.

    Returns:
        A sentence without its full stop: "annealed uses its thoughts: swapping them takes 87.7 points (intact 98.1 %,
        swapped 10.4 %, zeroed 12.0 %)".
    """
    if is_trained_pause(main.label):
        return f"{main.label} takes as many positions without a thought in them: {percent(main.accuracy)} %"
    used = uses_thoughts(rows, main)
    if used is None:
        return f"{main.label} was measured without zeroed or swapped thoughts, so nothing shows whether it uses them"
    found = control_rows(rows, main)
    measured = [f"intact {percent(main.accuracy)} %"]
    measured += [f"{CONTROL_NAMES[name]} {percent(found[name].accuracy)} %" for name in DECIDING if name in found]
    if used:
        name, how = ("swap", "swapping") if "swap" in found else ("zero", "zeroing")
        lost = percent(main.accuracy - found[name].accuracy)
        return (
            f"{main.label} uses its thoughts: {how} them takes {lost} points ({', '.join(measured)}){_carried(found)}"
        )
    survivors = [CONTROL_NAMES[name] for name in DECIDING if name in found and found[name].high >= main.low]
    reason = f"95 % intervals of {' and '.join(survivors)} reach that of intact, n = {main.total}"
    return f"{main.label} is not using its thoughts: {', '.join(measured)} ({reason})"


def _carried(controls: Mapping[str, EvalRow]) -> str:
    """What the donor rate says of thoughts that are used."""
    swapped = controls.get("swap")
    if swapped is None or swapped.donor_rate is None:
        return ""
    came = f"the donor's answer came in {percent(swapped.donor_rate)} % of {swapped.donor_total}"
    if swapped.donor_rate >= CARRIED:
        return f"; what they carry is the answer itself: {came}"
    return f"; they do not carry the whole answer: {came}"


def _chosen(main: EvalRow) -> str:
    """How well a model chooses K."""
    if main.k_right is None:
        return ""
    return f"; it takes as many thoughts as the steps ask for in {percent(main.k_right)} % of answers"


def _against_pause(rows: Sequence[EvalRow], main: EvalRow) -> str:
    """What a trained pause says of a latent method: whether as many positions without thoughts do as well."""
    pauses = [row for label, row in main_rows(rows).items() if is_trained_pause(label) and row.k]
    if not pauses or is_trained_pause(main.label):
        return ""
    best = max(pauses, key=lambda row: row.accuracy)
    if main.low > best.high:
        above = percent(main.accuracy - best.accuracy)
        return f"; a trained pause reaches {percent(best.accuracy)} %: {above} points are due to what the thoughts hold"
    how = "does better" if best.low > main.high else "does as well"
    return f"; a trained pause {how} ({percent(best.accuracy)} %): extra positions explain it"


def _comparison(reference: EvalRow, latent: Sequence[EvalRow], with_cost: bool) -> str:
    """One sentence that holds the latent methods against a reference."""
    clauses = []
    for main in latent:
        relation = "not clearly different"
        if intervals_apart(main, reference):
            relation = "better" if main.accuracy > reference.accuracy else "worse"
        cost = f" at {main.passes_per_answer:.1f} passes an answer" if with_cost else ""
        clauses.append(f"{main.label} is {relation} ({percent(main.accuracy)} %{cost})")
    cost = f" at {reference.passes_per_answer:.1f} passes an answer" if with_cost else ""
    return f"Compared with {reference.label} ({percent(reference.accuracy)} %{cost}), {', '.join(clauses)}."


def _cut(mains: Iterable[EvalRow]) -> list[str]:
    """Which labels were cut off so often that their accuracy may be the bound's doing, as a sentence."""
    told = [f"{main.label} ({percent(share)} %)" for main in mains if (share := main.truncated / main.total) >= CUT]
    if not told:
        return []
    return [f"Answers cut off at --max-new-tokens: {', '.join(told)}; under a higher bound more may be right."]


def verdict(rows: Sequence[EvalRow]) -> str:
    """What was found, in a few sentences.

    The first, one for each latent method, say whether it uses its thoughts, what they carry, and whether a trained
    pause does as well; the others compare them with each method that was asked without reasoning or in words.
    Differences count only where 95 % intervals do not overlap.

    Args:
        rows: the rows of a report.

    Returns:
        The sentences; for rows without a latent method, the accuracy of each label. The last tells of whom a tenth of
        the answers or more were cut off.
    """
    mains = main_rows(rows)
    latent = [main for main in mains.values() if main.k]
    if not mains:
        return "Nothing was measured."
    if not latent:
        measured = [f"{label} {with_interval(main)} % (n = {main.total})" for label, main in mains.items()]
        return " ".join([f"Accuracy with 95 % interval: {', '.join(measured)}.", *_cut(mains.values())])
    sentences = [f"{thoughts_clause(rows, main)}{_chosen(main)}{_against_pause(rows, main)}." for main in latent]
    for label, mode in ((NO_REASONING, "none"), (WORDS, "words")):
        for main in mains.values():
            if not main.k and (main.label == label or (main.mode == mode and not main.label.endswith(VOTED))):
                sentences.append(_comparison(main, latent, with_cost=label == WORDS))
    return " ".join([*sentences, *_cut(mains.values())])
