"""Which rows a table, a chart or a sentence is made from: one set of rules, so that they cannot disagree.

The main row of a label is the first row of that label with control "none", in the order of the report. Its k and p are
the label's main setting; a label whose main row has k = 0 takes no latent step (words, no reasoning).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from latent_gemma.evaluation.results import CONTROLS, DOSE, KEEP, STOP, EvalRow, strength

NO_REASONING = "no reasoning"
WORDS = "words"
#: What the control that is trained is called: a learnt constant in place of every thought, the same plan and budget.
PAUSE = "pause"

#: What each control is called in front of people; "k0" is the same model without thoughts.
CONTROL_NAMES = {
    "zero": "zeroed", "noise": "noise", "swap": "swapped", "permute": "permuted", "pause": "pause", "k0": "K=0",
}  # fmt: skip


def main_rows(rows: Sequence[EvalRow]) -> dict[str, EvalRow]:
    """The main row of every label, in the order the labels appear.

    Args:
        rows: the rows of a report.

    Returns:
        Label -> its first row with control "none"; a label without one is left out.
    """
    found: dict[str, EvalRow] = {}
    for row in rows:
        if row.control == "none":
            found.setdefault(row.label, row)
    return found


def control_rows(rows: Sequence[EvalRow], main: EvalRow) -> dict[str, EvalRow]:
    """The controls measured for a main row.

    Args:
        rows: the rows of a report.
        main: the main row of a label.

    Returns:
        Key of `CONTROL_NAMES` -> row, in that order: the controls at the k and p of the main row, and as "k0" the
        same label without thoughts. Empty for a label that takes no latent step.
    """
    found: dict[str, EvalRow] = {}
    for row in rows if main.k else ():
        if row.label != main.label:
            continue
        if row.control in CONTROLS[1:] and (row.k, row.p) == (main.k, main.p):
            found.setdefault(row.control, row)
        elif row.control == "none" and row.k == 0:
            found.setdefault("k0", row)
    return {name: found[name] for name in CONTROL_NAMES if name in found}


@dataclass(frozen=True)
class Curve:
    """Accuracy over one setting, the other held where each label's main row has it.

    Args:
        name: of its chart's file.
        title: heading of its table and its chart.
        setting: the setting's symbol.
        axis: what stands under the chart.
        lines: label -> points by rising setting, two or more: the setting and its row.
        chosen: over K: label -> its main row, where the model itself chooses K.
    """

    name: str
    title: str
    setting: str
    axis: str
    lines: dict[str, tuple[tuple[float, EvalRow], ...]]
    chosen: dict[str, EvalRow] = field(default_factory=dict)


def curves(rows: Sequence[EvalRow]) -> tuple[Curve, ...]:
    """Accuracy over the number of latent steps K, the share p of the token embedding, and controls with a strength.

    Args:
        rows: the rows of a report.

    Returns:
        The curves; labels with fewer than two points are left out, and a curve without labels.
    """
    over_k: dict[str, dict[float, EvalRow]] = {}
    over_p: dict[str, dict[float, EvalRow]] = {}
    over: dict[str, dict[str, dict[float, EvalRow]]] = {DOSE: {}, KEEP: {}, STOP: {}}
    chosen: dict[str, EvalRow] = {}
    for label, main in main_rows(rows).items():
        if main.k == "auto":
            chosen[label] = main
        for row in rows if main.k else ():
            if row.label != label:
                continue
            for name, points in over.items() if (row.k, row.p) == (main.k, main.p) else ():
                if (at := strength(row.control, name)) is not None:
                    points.setdefault(label, _ends(name, main, control_rows(rows, main)))[at] = row
            if row.control != "none":
                continue
            # p does not exist where no latent step is taken, so k = 0 belongs to every p.
            if row.k != "auto" and (row.p == main.p or row.k == 0):
                over_k.setdefault(label, {}).setdefault(row.k, row)
            if row.k == main.k and row.p is not None:
                over_p.setdefault(label, {}).setdefault(row.p, row)

    def lines(found: dict[str, dict[float, EvalRow]]) -> dict[str, tuple[tuple[float, EvalRow], ...]]:
        return {label: tuple(sorted(points.items())) for label, points in found.items() if len(points) > 1}

    found = (
        Curve(
            "accuracy_over_k", "Accuracy over K, the number of latent steps", "K", "K, latent steps before the answer",
            lines(over_k), chosen,
        ),
        Curve(
            "accuracy_over_p", "Accuracy over p, the share of the token", "p",
            "p, share of the token embedding (0: latent state alone, 1: token alone)", lines(over_p),
        ),
        Curve(
            "accuracy_over_noise", "Accuracy over noise added to the thoughts", "noise",
            "standard deviation of the noise, in units of each thought's RMS", lines(over[DOSE]),
        ),
        Curve(
            "accuracy_over_kept", "Accuracy with the first m thoughts kept, the rest swapped", "m",
            "m, thoughts kept; those behind them are another question's", lines(over[KEEP]),
        ),
        Curve(
            "accuracy_over_stop", "Accuracy when thinking stops after m thoughts", "m",
            "m, thoughts taken at most", lines(over[STOP]),
        ),
    )  # fmt: skip
    return tuple(curve for curve in found if curve.lines)


def _ends(name: str, main: EvalRow, controls: Mapping[str, EvalRow]) -> dict[float, EvalRow]:
    """The ends of the curve over a control's strength that are measured anyway."""
    if name == DOSE:
        return {0.0: main}
    if name == KEEP:
        swapped = {0.0: controls["swap"]} if "swap" in controls else {}
        return swapped if main.k == "auto" else {**swapped, float(main.k): main}
    return {0.0: controls["k0"]} if "k0" in controls else {}


def is_trained_pause(label: str) -> bool:
    """Whether a label is that of the trained pause, or of a variant of it ("pause, one pass")."""
    return label.split(",")[0].split(":")[0].strip().lower() == PAUSE


def reference_rows(rows: Sequence[EvalRow]) -> dict[str, EvalRow]:
    """What curves and bars are held against: the labels that take no latent step.

    Args:
        rows: the rows of a report.

    Returns:
        Name -> row. If "no reasoning" was not measured and there is one latent label, its own k = 0 row stands in.
    """
    mains = main_rows(rows)
    references = {label: main for label, main in mains.items() if main.k == 0}
    latent = [main for main in mains.values() if main.k]
    if NO_REASONING not in references and len(latent) == 1:
        without = control_rows(rows, latent[0]).get("k0")
        if without:
            references["no thoughts (K=0)"] = without
    return references
