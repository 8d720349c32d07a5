"""BLEU as others can repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sacrebleu.metrics import BLEU

from latent_gemma.evaluation.metrics.texts import References, as_lists, tame
from latent_gemma.text.language import Language

_TOKENIZERS: dict[Language, str] = {"ja": "ja-mecab", "zh": "zh", "en": "13a"}


@dataclass(frozen=True)
class BleuScore:
    """Corpus BLEU.

    Args:
        score_0_100: as sacreBLEU and most papers give it.
        score_0_1: the same divided by 100, as others give it.
        signature: sacreBLEU's, with tokenizer, smoothing and version; scores of two signatures do not compare.
    """

    score_0_100: float
    score_0_1: float
    signature: str


def bleu(predictions: Sequence[str], references: References, language: Language) -> BleuScore:
    """Corpus BLEU with sacreBLEU's defaults: up to four words in a row, exponential smoothing, case kept.

    Args:
        predictions: one text an item; of one longer than 10,000 characters the beginning is scored.
        references: one text an item, or several that count together.
        language: what the references are written in: "ja" is cut into words by MeCab, "zh" into characters, "en" by
            the rules of 13a.

    Returns:
        The score on both scales and its signature. A set whose predictions have all fewer than four words scores 0.

    Raises:
        DataError: as `as_lists`.

    Source: Papineni et al. 2002; Post 2018, "A call for clarity in reporting BLEU scores".
    """
    lists = as_lists(predictions, references)
    metric = BLEU(tokenize=_TOKENIZERS[language])
    # sacreBLEU wants one stream of all first references, one of all second ones, None where an item has no more.
    streams = [list(stream) for stream in zip_longest(*(map(tame, given) for given in lists))]
    result = metric.corpus_score(list(map(tame, predictions)), streams)
    # Rounding can leave a perfect score an ulp above 100.
    score = min(100.0, result.score)
    return BleuScore(score, score / 100, str(metric.get_signature()))
