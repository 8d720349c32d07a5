"""From reward settings to columns."""

import pytest

from latent_gemma.errors import ConfigError
from latent_gemma.model.prompt import Frame
from latent_gemma.training.rewarding import RewardBook
from latent_gemma.training.settings import RewardSettings


def test_words_are_paid_for_format_and_answer_thoughts_for_the_answer(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(
        "def brevity(question, completion, accepted):\n    return -len(completion)\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = RewardSettings(rewards=("my_rewards:brevity",))
    names = [getattr(reward, "name", getattr(reward, "__name__", "")) for reward in settings.build("words")]
    assert names == ["correctness", "format", "broken_tags", "short_reasoning", "brevity"]
    assert [getattr(r, "name", "brevity") for r in settings.build("latent")] == ["correctness", "brevity"]
    assert len(RewardSettings(format_score=0.0, short_score=0.0).build("words")) == 2


def test_true_steps_are_paid_for_when_asked_for():
    settings = RewardSettings(steps_score=5.0)
    assert [reward.name for reward in settings.build("words")][-1] == "steps"
    assert [reward.name for reward in settings.build("latent")] == ["correctness"]
    assert "steps" not in [reward.name for reward in RewardSettings().build("words")]


@pytest.mark.parametrize(
    "settings",
    [
        RewardSettings(correct_score=0.0, format_score=0.0, broken_score=0.0, short_score=0.0),
        RewardSettings(rewards=("no_such_module_here:f",)),
        RewardSettings(rewards=("math:sqrt", "cmath:sqrt")),
    ],
)
def test_what_cannot_be_paid_is_refused(settings):
    with pytest.raises(ConfigError):
        settings.build("words")


def test_marked_words_are_scored_as_if_tagged(make_model, tokenizer):
    model = make_model()
    frame = Frame(tokenizer, model.config.latent)
    steps, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("2+2 is 4.", "4"))
    whole = [*steps, frame.latent.eot_id, *answer, frame.end_id]
    book = RewardBook(RewardSettings().build("words"), frame, "words")
    scores = book.score([("2+2", ["4"])] * 2, [book.read(ids) for ids in (whole, steps)])
    assert scores == [[25.0, 0.0], [2.0, 0.0], [0.0, -15.0], [0.0, 0.0]]
    assert book.last[0].completion == "<reasoning>2+2 is 4.</reasoning><answer>4</answer>"
    assert book.last[1].scores == {"correctness": 0.0, "format": 0.0, "broken_tags": -15.0, "short_reasoning": 0.0}


def test_expressions_are_compared_when_asked_for():
    exact, math = (RewardSettings(equality=how).build("latent")[0] for how in ("exact", "math"))
    assert exact("q", r"\boxed{\frac{x}{2}}", ("x/2",)) == 0.0
    assert math("q", r"\boxed{\frac{x}{2}}", ("x/2",)) == 25.0
    assert math("q", r"\boxed{\frac{x}{3}}", ("x/2",)) == 0.0
