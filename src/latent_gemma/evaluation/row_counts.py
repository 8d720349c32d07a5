"""From items to rows: accuracy, cost and further metrics, over all items and for each language among them."""

from collections import Counter
from collections.abc import Sequence

from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.items import Item
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.evaluation.metrics.registry import Figures, Outputs, measure
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.text.language import Language


def count_row(
    items: Sequence[Item], figures: Figures | None = None, language: str = "", wanted: str | None = None
) -> EvalRow:
    """Count the items of one setting.

    Args:
        items: at least one, all of one setting.
        figures: further metrics of them.
        language: of the questions, where the row is of one language alone.
        wanted: of the answers.

    Returns:
        The row.
    """
    first, total, correct = items[0], len(items), sum(item.correct for item in items)
    low, high = wilson_interval(correct, total)
    tokens = sum(item.tokens for item in items) / total
    latent_steps = sum(item.latent_steps for item in items) / total
    scored = [item.answer_logprob for item in items if item.answer_logprob is not None]
    donors = [item.donor_correct for item in items if item.donor_correct is not None]
    peaks = [item.peak_mem_gib for item in items if item.peak_mem_gib is not None]
    return EvalRow(
        label=first.label,
        k=first.k,
        p=first.p,
        control=first.control,
        correct=correct,
        strict=sum(item.strict for item in items),
        total=total,
        low=low,
        high=high,
        tokens_per_answer=tokens,
        passes_per_answer=sum(item.passes for item in items) / total,
        seconds_per_answer=None,
        complete=None if first.complete is None else sum(bool(item.complete) for item in items),
        truncated=sum(not item.finished for item in items),
        figures=figures or {},
        extracted=sum(item.extracted is not None for item in items),
        marked=sum(item.marked for item in items),
        latent_steps_per_answer=latent_steps,
        peak_mem_gib=max(peaks, default=None),
        language=language,
        answer_language=wanted or "",
        mode=first.mode,
        answer_logprob=sum(scored) / len(scored) if scored else None,
        donor_rate=sum(donors) / len(donors) if donors else None,
        donor_total=len(donors) if donors else None,
        k_table=_k_table(items) if first.k == "auto" and first.control == "none" and not first.traces else (),
    )


def _k_table(items: Sequence[Item]) -> tuple[tuple[int | None, int, int], ...]:
    counts = Counter((item.expected_steps, item.latent_steps) for item in items)
    found = ((wanted, taken, count) for (wanted, taken), count in counts.items())
    return tuple(sorted(found, key=lambda entry: (-1 if entry[0] is None else entry[0], entry[1])))


def _groups(items: Sequence[Item]) -> dict[tuple[str, str], list[Item]]:
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.language, item.wanted), []).append(item)
    return dict(sorted(groups.items()))


def _measured(names: Sequence[str], items: Sequence[Item], wanted: str, encoder: str) -> Figures:
    # What is told apart is Japanese and Chinese from all else.
    language: Language = "ja" if wanted == "ja" else "zh" if wanted == "zh" else "en"
    # DNA and NHK are answers to Japanese questions; not where another language than the question's was asked for.
    own = [item.expected if item.language == item.wanted else () for item in items]
    outputs = Outputs(
        [item.answer for item in items], [item.expected for item in items], language, allowed=own, encoder=encoder
    )
    return measure(names, outputs)


def further_figures(items: Sequence[Item], names: Sequence[str], encoder: str = DEFAULT_ENCODER) -> Figures:
    """Further metrics of the items of one setting.

    Args:
        items: at least one.
        names: of the metrics.
        encoder: of BERTScore.

    Returns:
        Their figures. Where answers are wanted in several languages, BLEU is left out (no tokenizer fits them all: see
        `language_rows`), and the share of answers in the right language is counted over all.
    """
    if not names:
        return {}
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(item.wanted, []).append(item)
    if len(parts) == 1:
        return _measured(names, items, items[0].wanted, encoder)
    figures = _measured([name for name in names if name not in ("bleu", "language")], items, "", encoder)
    if "language" in names:
        shares = (
            float(_measured(["language"], part, wanted, encoder)["language_share"]) * len(part)
            for wanted, part in parts.items()
        )
        figures["language_share"] = sum(shares) / len(items)
    return figures


def language_rows(items: Sequence[Item], names: Sequence[str], encoder: str = DEFAULT_ENCODER) -> list[EvalRow]:
    """One row for each language of questions and answers.

    Args:
        items: of one setting.
        names: of the further metrics; the share of answers in the right language is always measured.
        encoder: of BERTScore.

    Returns:
        The rows; none where all questions are in one language and want one.
    """
    groups = _groups(items)
    if len(groups) < 2:
        return []
    names = list(dict.fromkeys([*names, "language"]))
    return [
        count_row(part, _measured(names, part, wanted, encoder), language, wanted)
        for (language, wanted), part in groups.items()
    ]
