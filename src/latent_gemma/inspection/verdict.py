"""Rows turned into honest sentences: does a model use its thoughts, and do they pay?"""

from collections.abc import Sequence

from latent_gemma.evaluation.intervals import intervals_apart
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.evaluation.vote_rows import VOTED
from latent_gemma.inspection.numbers import percent, with_interval
from latent_gemma.inspection.select import CONTROL_NAMES, NO_REASONING, WORDS, control_rows, main_rows

#: The controls that decide. Noise can hurt a model that ignores the content of its thoughts; zeros and the thoughts of
#: another question take that content away.
DECIDING = ("zero", "swap")


def uses_thoughts(rows: Sequence[EvalRow], main: EvalRow) -> bool | None:
    """Whether taking the thoughts away costs accuracy.

    Args:
        rows: the rows of a report.
        main: the main row of a label.

    Returns:
        True if zeroed and swapped thoughts both bring accuracy down past overlapping 95 % intervals, False if either
        does not, None if neither was measured.
    """
    found = control_rows(rows, main)
    decided = [found[name].high < main.low for name in DECIDING if name in found]
    return all(decided) if decided else None


def thoughts_clause(rows: Sequence[EvalRow], main: EvalRow) -> str:
    """What the controls of one label say.

    Args:
        rows: the rows of a report.
        main: the main row of a latent label.

    Returns:
        A clause without its full stop: "annealed uses its thoughts: intact 98.1 %, zeroed 12.0 %, swapped 10.4 %".
    """
    used = uses_thoughts(rows, main)
    if used is None:
        return f"{main.label} was measured without zeroed or swapped thoughts, so nothing shows whether it uses them"
    found = control_rows(rows, main)
    measured = [f"intact {percent(main.accuracy)} %"]
    measured += [f"{CONTROL_NAMES[name]} {percent(found[name].accuracy)} %" for name in DECIDING if name in found]
    if used:
        return f"{main.label} uses its thoughts: {', '.join(measured)}"
    survivors = [CONTROL_NAMES[name] for name in DECIDING if name in found and found[name].high >= main.low]
    reason = f"95 % intervals of {' and '.join(survivors)} reach that of intact, n = {main.total}"
    return f"{main.label} is not using its thoughts: {', '.join(measured)} ({reason})"


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


def verdict(rows: Sequence[EvalRow]) -> str:
    """What was found, in one to three sentences.

    The first says which latent methods use their thoughts, the others compare them with each method that was asked
    without reasoning or in words. Differences count only where 95 % intervals do not overlap.

    Args:
        rows: the rows of a report.

    Returns:
        The sentences; for rows without a latent method, the accuracy of each label.
    """
    mains = main_rows(rows)
    latent = [main for main in mains.values() if main.k]
    if not mains:
        return "Nothing was measured."
    if not latent:
        measured = [f"{label} {with_interval(main)} % (n = {main.total})" for label, main in mains.items()]
        return f"Accuracy with 95 % interval: {', '.join(measured)}."
    sentences = ["; ".join(thoughts_clause(rows, main) for main in latent) + "."]
    for label, mode in ((NO_REASONING, "none"), (WORDS, "words")):
        for main in mains.values():
            if not main.k and (main.label == label or (main.mode == mode and not main.label.endswith(VOTED))):
                sentences.append(_comparison(main, latent, with_cost=label == WORDS))
    return " ".join(sentences)
