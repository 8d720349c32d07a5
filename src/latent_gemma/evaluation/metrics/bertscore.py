"""BERTScore: closeness in meaning, as an encoder sees it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.evaluation.metrics.texts import References, as_lists, tame

#: 104 languages, Japanese and English among them.
DEFAULT_ENCODER = "bert-base-multilingual-cased"
BERTSCORE_REMEDY = "pip install 'latent-gemma[bertscore]'"


@dataclass(frozen=True)
class BertScore:
    """BERTScore F1 over a set of items; scores of another encoder or layer do not compare.

    Args:
        mean_f1: mean of the items, not rescaled, -1 to 1.
        items: one F1 an item.
        encoder: its name or directory.
        num_layers: the layer whose states were compared.
    """

    mean_f1: float
    items: tuple[float, ...]
    encoder: str
    num_layers: int


def bertscore_f1(
    predictions: Sequence[str],
    references: References,
    model: str = DEFAULT_ENCODER,
    num_layers: int | None = None,
    batch_size: int = 64,
) -> BertScore:
    """BERTScore F1 without rescaling and without idf weights.

    Args:
        predictions: one text an item; an empty one scores 0 and never reaches the encoder.
        references: one text an item, or several of which the closest counts; empty ones score 0.
        model: hub name or local directory of an encoder; its weights must be safetensors.
        num_layers: the layer to compare; by default the one bert-score has tuned for the last part of the name, else
            the last one.
        batch_size: texts encoded at once.

    Returns:
        The F1 of each item and their mean.

    Raises:
        ConfigError: if bert-score is not installed, or the encoder has no such layer.
        ModelError: if the encoder cannot be loaded.
        DataError: as `as_lists`.

    Source: Zhang et al. 2020, "BERTScore: Evaluating text generation with BERT". Texts longer than the encoder are
    cut, as there.
    """
    lists = as_lists(predictions, references)
    pairs = [
        (item, tame(predicted), tame(reference))
        for item, (predicted, accepted) in enumerate(zip(predictions, lists, strict=True))
        for reference in accepted
        if predicted.strip() and reference.strip()
    ]
    encoder, tokenizer, layers = _load(model, num_layers)
    items = [0.0] * len(lists)
    if pairs:
        scores = _score(encoder, tokenizer, [pair[1] for pair in pairs], [pair[2] for pair in pairs], batch_size)
        best: defaultdict[int, list[float]] = defaultdict(list)
        for (item, _, _), score in zip(pairs, scores, strict=True):
            best[item].append(score)
        for item, values in best.items():
            items[item] = max(values)
    return BertScore(sum(items) / len(items), tuple(items), model, layers)


def _load(model: str, num_layers: int | None) -> tuple[Any, Any, int]:
    try:
        from bert_score.utils import get_model, get_tokenizer, model2layers
    except ImportError as error:
        raise ConfigError("bert-score is not installed", BERTSCORE_REMEDY) from error
    from transformers import AutoConfig

    remedy = "name an encoder of the hub, or a directory with config, tokenizer and safetensors weights"
    if Path(model).is_dir() and not any(Path(model).glob("*.safetensors")):
        raise ModelError(f"BERTScore encoder {model} holds no safetensors weights", remedy)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        depth = int(config.num_hidden_layers)
        layers = (
            model2layers.get(model) or model2layers.get(Path(model).name, depth) if num_layers is None else num_layers
        )
        if not 1 <= layers <= depth:
            raise ConfigError(f"BERTScore encoder {model} has no layer {layers}", f"give one of 1 to {depth}")
        encoder, tokenizer = get_model(model, layers), get_tokenizer(model, use_fast=True)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"BERTScore encoder {model} cannot be loaded", remedy) from error
    # A tokenizer saved without its length says 10^30, which its own truncation cannot read.
    longest = getattr(config, "max_position_embeddings", None) or 512
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return encoder, tokenizer, layers


def _score(encoder: Any, tokenizer: Any, predictions: list[str], references: list[str], batch_size: int) -> list[float]:
    import torch
    from bert_score.utils import bert_cos_score_idf

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # As bert_score.score weighs without idf: every token 1, the marks around the text 0.
    weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
    weights[tokenizer.sep_token_id] = weights[tokenizer.cls_token_id] = 0.0
    scores = bert_cos_score_idf(
        encoder.to(device), references, predictions, tokenizer, weights, device=device, batch_size=batch_size
    )
    # Rounding can leave the F1 of equal texts an ulp above 1.
    return [max(-1.0, min(1.0, float(score))) for score in scores[..., 2]]
