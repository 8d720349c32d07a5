import pytest

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.metrics import registry
from latent_gemma.evaluation.metrics.bertscore import BertScore
from latent_gemma.evaluation.metrics.registry import METRICS, Outputs, measure


def test_figures_carry_their_scale_in_their_names():
    outputs = Outputs(["東京", "the cat"], [["京都", "東京"], "東京"], "ja", threshold=50)
    figures = measure(["fuzzy", "bleu", "language"], outputs)
    assert figures["fuzzy_0_100"] == 50
    assert figures["fuzzy_share"] == 0.5
    assert figures["bleu_0_1"] == figures["bleu_0_100"] / 100
    assert "ja-mecab" in figures["bleu_signature"]
    assert figures["language_share"] == 0.5


def test_bertscore_says_with_what_it_was_computed(monkeypatch):
    given = []

    def fake(*arguments):
        given.extend(arguments)
        return BertScore(0.5, (0.5,), "encoder", 2)

    monkeypatch.setattr(registry, "bertscore_f1", fake)
    figures = measure(["bertscore"], Outputs(["a"], ["b"], "en", encoder="encoder", num_layers=2))
    assert figures == {"bertscore_f1": 0.5, "bertscore_signature": "encoder_L2_no-idf"}
    assert given == [["a"], ["b"], "encoder", 2]


def test_a_wrong_name_is_refused_with_the_known_ones_before_anything_is_computed(monkeypatch):
    monkeypatch.setitem(METRICS, "fuzzy", pytest.fail)
    with pytest.raises(ConfigError, match=r"^unknown metric 'blue': known are fuzzy, bleu, bertscore, language$"):
        measure(["fuzzy", "blue"], Outputs(["a"], ["a"], "en"))
