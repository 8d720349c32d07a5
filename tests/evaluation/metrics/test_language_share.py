import pytest

from latent_gemma.errors import DataError
from latent_gemma.evaluation.metrics.answer_language import in_language, language_share


@pytest.mark.parametrize(
    ("text", "languages"),
    [
        ("東京", {"ja"}),
        ("东京", {"zh"}),
        ("Tokyo", {"en"}),
        ("42", {"en", "ja", "zh"}),
        ("-1/2 %", {"en", "ja", "zh"}),
        ("", set()),
        (" \n", set()),
    ],
)
def test_numbers_fit_both_languages_and_nothing_fits_none(text, languages):
    assert {language for language in ("en", "ja", "zh") if in_language(text, language)} == languages


@pytest.mark.parametrize(
    ("text", "golds", "right"),
    [
        ("DNA", ("DNA",), True),
        ("RNA", ("DNA",), True),
        ("nhk.", ("日本放送協会", "NHK"), True),
        ("BBC", ("日本放送協会", "NHK"), False),
        ("Tokyo", ("東京",), False),
        ("Tokyo", ("1600",), False),
        ("东京", ("東京",), False),
    ],
)
def test_what_the_data_set_answers_in_is_no_wrong_language(text, golds, right):
    assert in_language(text, "ja", golds) == right


def test_share():
    assert language_share(["DNA", "DNA"], "ja", [("DNA",), ("遺伝子",)]) == 0.5
    assert language_share(["東京", "Tokyo", "42", ""], "ja") == 0.5
    with pytest.raises(DataError, match="no prediction"):
        language_share([], "ja")
