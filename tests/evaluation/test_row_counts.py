"""From items to figures, in the language that each answer should be in."""

from dataclasses import replace

from latent_gemma.evaluation.items import Item, TraceItem
from latent_gemma.evaluation.row_counts import count_row, further_figures, language_rows

ITEM = Item(
    label="words", k=0, p=None, control="none", index=0, question="何？", language="ja", wanted="ja",
    expected=("DNA",), answer="DNA", reasoning="", extracted="DNA", marked=True, correct=True, strict=True,
    complete=True, tokens=1, latent_steps=0, finished=True, seconds=0.1, peak_mem_gib=None,
)  # fmt: skip
MORE = [ITEM, replace(ITEM, answer="猫", expected=("猫",)), replace(ITEM, answer="a cat", expected=("猫",))]


def test_an_answer_in_the_language_of_the_data_sets_own_is_in_the_right_one():
    assert further_figures(MORE, ["language"])["language_share"] == 2 / 3


def test_where_japanese_was_asked_for_english_answers_are_wrong():
    english = [replace(ITEM, language="en", expected=("a cat",), answer=answer) for answer in ("a cat", "猫")]
    assert further_figures(english, ["language"])["language_share"] == 0.5
    assert further_figures([*MORE, *english], ["language"])["language_share"] == 3 / 5


def test_chinese_answers_are_counted_as_chinese():
    chinese = replace(ITEM, language="zh", wanted="zh", expected=("东京",), answer="东京")
    assert further_figures([chinese], ["language", "bleu"])["language_share"] == 1
    rows = language_rows([ITEM, chinese], [])
    assert [(row.language, row.figures["language_share"]) for row in rows] == [("ja", 1), ("zh", 1)]


def test_passes_are_tokens_and_latent_steps_or_the_passes_that_took_these_at_once():
    one = replace(ITEM, tokens=3, k=8, latent_steps=8)
    trace = TraceItem("DNA", "", "DNA", -0.1, 1.0, True, True, True, 3, True)
    vote = replace(one, tokens=6, latent_steps=16, traces=(trace, trace))
    for item, most, passes in ((one, None, 11), (one, 3, 6), (one, 9, 11), (vote, None, 22), (vote, 3, 12)):
        row = count_row([replace(item, parallel_passes=most)] * 2)
        assert (row.latent_steps_per_answer, row.passes_per_answer) == (item.latent_steps, passes)
