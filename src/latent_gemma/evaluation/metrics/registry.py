"""The metrics by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.metrics.answer_language import language_share
from latent_gemma.evaluation.metrics.bertscore import BERTSCORE_REMEDY, DEFAULT_ENCODER, bertscore_f1
from latent_gemma.evaluation.metrics.bleu import bleu
from latent_gemma.evaluation.metrics.fuzzy import DEFAULT_THRESHOLD, fuzzy
from latent_gemma.evaluation.metrics.texts import References
from latent_gemma.text.language import Language

Figures = dict[str, float | str]


@dataclass(frozen=True)
class Outputs:
    """What metrics are computed on.

    Args:
        predictions: one text an item.
        references: one text an item, or several.
        language: what the answers should be written in.
        allowed: answers an item whose own language is right as well; none where there are no items in it.
        threshold: fuzzy score, 0 to 100, from which an item counts as right.
        encoder: hub name or local directory of the encoder of BERTScore.
        num_layers: its layer; None for the one `bertscore_f1` chooses.
    """

    predictions: Sequence[str]
    references: References
    language: Language
    allowed: Sequence[Sequence[str]] = ()
    threshold: float = DEFAULT_THRESHOLD
    encoder: str = DEFAULT_ENCODER
    num_layers: int | None = None


def _fuzzy(outputs: Outputs) -> Figures:
    score = fuzzy(outputs.predictions, outputs.references, outputs.threshold)
    return {"fuzzy_0_100": score.mean_0_100, "fuzzy_share": score.share, "fuzzy_threshold": score.threshold}


def _bleu(outputs: Outputs) -> Figures:
    score = bleu(outputs.predictions, outputs.references, outputs.language)
    return {"bleu_0_100": score.score_0_100, "bleu_0_1": score.score_0_1, "bleu_signature": score.signature}


def _bertscore(outputs: Outputs) -> Figures:
    score = bertscore_f1(outputs.predictions, outputs.references, outputs.encoder, outputs.num_layers)
    return {"bertscore_f1": score.mean_f1, "bertscore_signature": f"{score.encoder}_L{score.num_layers}_no-idf"}


def _language(outputs: Outputs) -> Figures:
    return {"language_share": language_share(outputs.predictions, outputs.language, outputs.allowed)}


#: Name as users type it -> what computes its figures.
METRICS: Mapping[str, Callable[[Outputs], Figures]] = {
    "fuzzy": _fuzzy,
    "bleu": _bleu,
    "bertscore": _bertscore,
    "language": _language,
}


def check_metrics(names: Sequence[str]) -> None:
    """Refuse what cannot be measured, before anything is computed.

    Args:
        names: as the user typed them.

    Raises:
        ConfigError: naming the first unknown metric and all known ones, or what BERTScore lacks.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"unknown metric {name!r}", f"known are {', '.join(METRICS)}")
    if "bertscore" in names and find_spec("bert_score") is None:
        raise ConfigError("bert-score is not installed", BERTSCORE_REMEDY)


def measure(names: Sequence[str], outputs: Outputs) -> Figures:
    """Compute metrics.

    Args:
        names: keys of `METRICS`.
        outputs: predictions and references.

    Returns:
        Their figures, each under a name that tells its scale.

    Raises:
        ConfigError: as `check_metrics`, or as a metric raises it.
        DataError: if predictions and references do not fit.
        ModelError: if the encoder of BERTScore cannot be loaded.
    """
    check_metrics(names)
    figures: Figures = {}
    for name in names:
        figures |= METRICS[name](outputs)
    return figures
