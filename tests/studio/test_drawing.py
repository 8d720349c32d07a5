"""The page's drawings hold what they are given, as text; every element that is opened is closed."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from latent_gemma.evaluation.results import ThoughtStep
from latent_gemma.inspection.edits import Thoughts
from latent_gemma.model.prompt import Written
from latent_gemma.model.traces import Trace
from latent_gemma.studio import drawing
from tests.faults.test_hostile_display import ATTACK, steers


class Shape(HTMLParser):
    """The elements and the text of a piece of HTML; fails where they are not nested."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("br", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def make_thoughts(text="7", expected=("7", "")):
    steps = tuple(
        ThoughtStep(
            k + 1, (text, f"{text}x", "y"), (0.9, 0.06, 0.01), 14.0, 0.3, "", ("a", text), (0.2, 0.9), (1, 2, 3), 0.2
        )
        for k in range(2)
    )
    return Thoughts(text, 0.0, steps, torch.zeros(2, 4), expected)


def written(text, reasoning=""):
    return Written(text, reasoning, text, text, True, 2, True)


def traces(*answers):
    return [Trace(written(answer, f"so {answer}"), -0.5, 0.4, 3) for answer in answers]


@pytest.mark.parametrize("text", ["7", ATTACK])
def test_everything_is_text(text):
    thoughts = make_thoughts(text, (text, ""))
    said, other = written(text), written(f"{text}!")
    pages = [
        drawing.strip(thoughts, said, True, 1, {0: text}, make_thoughts(f"{text}2"), other),
        drawing.tools(thoughts, 0, True),
        drawing.donor(thoughts),
        drawing.change(said, other, text, [[0.9, 0.1], [0.2, 0.8]]),
        drawing.heat_map(thoughts, text),
        drawing.votes(traces(text, text, "8")),
        drawing.sides([(text, "latent", thoughts, said), (text, "words", replace(thoughts, steps=()), said)]),
        drawing.curves([{"step": step, text: step / 2, "loss": 1.0} for step in range(3)]),
        drawing.note(text),
    ]
    for page in pages:
        shape = Shape(page)
        assert not {"script", "img", "a", "iframe"} & set(shape.tags)
        assert not steers(page)
    assert all("<script>alert(1)</script>" in Shape(page).text for page in pages if text == ATTACK and "alert" in page)
    assert sum("alert" in page for page in pages) == (len(pages) if text == ATTACK else 0)


def test_a_ring_where_a_layer_says_what_is_expected():
    page = drawing.heat_map(make_thoughts(expected=("a", "7")), "t")
    rows = page.split("<tr>")
    assert [row.count("hit") for row in rows[2:]] == [1, 1], "layer 1 says 7, the embedding a"
    assert "A ring" in page
    assert "A ring" not in drawing.heat_map(make_thoughts(expected=("", "")), "t")


def test_the_probability_of_stopping_is_shown_where_it_is_learnt():
    thoughts = make_thoughts()
    assert "stop 20.0 %" in drawing.strip(thoughts, None, learned_k=True)
    assert "stop" not in drawing.strip(thoughts, None, learned_k=False)


def test_the_winner_comes_first_and_no_answer_last():
    cut = Trace(Written("", "", "", "", False, 9, False), -1.0, 1.0)
    shape = Shape(drawing.votes([cut, cut, cut, *traces("8", "7", "7")])).text
    assert shape.index("2 of 6") < shape.index("1 of 6") < shape.index("3 of 6")
    assert shape.index("7") < shape.index("8") < shape.index("no answer")


def test_both_answers_are_told_apart_from_one_that_stays():
    same = drawing.change(written("7"), written("7"), "zeroed", [[0.9, 0.9], [0.8, 0.8]])
    assert "The answer stays." in same
    assert same.count('class="track"') == 1
    assert "--_a:90.0%;--_b:80.0%" in same
    assert drawing.share(0.0004) == "&lt; 0.1 %"
    assert drawing.share(0.0) == "0.0 %"


def test_curves_leave_out_what_cannot_be_drawn():
    entries = [
        {"step": 1, "loss": 2.0, "p": True, "note": "x"},
        {"step": 2, "loss": float("nan")},
        {"step": 3, "loss": 1.0},
    ]
    page = drawing.curves([*entries, {"loss": 5.0}])
    assert page.count("<polyline") == 1
    assert 'points="0.0,2.0 200.0,58.0"' in page
    norms = [{"step": step, "grad_1": 0.1, "grad_2": 0.2} for step in range(2)]
    assert drawing.curves(norms).count("<figure>") == 1
    assert drawing.curves(norms).count("<polyline") == 2
    assert "Nothing is logged" in drawing.curves([])
