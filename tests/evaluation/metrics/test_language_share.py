import pytest

from latent_gemma.errors import DataError
from latent_gemma.evaluation.metrics.language import in_language, language_share


@pytest.mark.parametrize(
    ("text", "languages"),
    [("東京", {"ja"}), ("Tokyo", {"en"}), ("42", {"en", "ja"}), ("-1/2 %", {"en", "ja"}), ("", set()), (" \n", set())],
)
def test_numbers_fit_both_languages_and_nothing_fits_none(text, languages):
    assert {language for language in ("en", "ja") if in_language(text, language)} == languages


def test_share():
    assert language_share(["東京", "Tokyo", "42", ""], "ja") == 0.5
    with pytest.raises(DataError, match="no prediction"):
        language_share([], "ja")
