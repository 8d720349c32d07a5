import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from latent_gemma.inspection.html_report import render_html, write_html
from latent_gemma.text.display import visible

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, addresses and text of a page; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


@pytest.fixture
def page(report):
    return Page(render_html(report))


def test_what_models_and_users_wrote_is_text(page, report):
    assert not {"script", "iframe", "object", "link", "svg"} & set(page.tags)
    hostile = report.traces[2].answer
    assert page.text.count(hostile) == 3  # question, answer, target


def test_hostile_text_everywhere_is_text(report):
    evil = "</title></style><script>alert(1)</script>"
    rows = tuple(replace(row, label=evil) if row.label == "annealed" else row for row in report.rows)
    context, curves = {evil: evil}, {evil: [{"step": 1, "value": 1.0}]}
    text = render_html(replace(report, title=evil, verdict=evil, rows=rows, context=context, curves=curves))
    assert "script" not in Page(text).tags
    assert evil not in text


def test_nothing_is_loaded(page, report):
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    text = render_html(replace(report, traces=()))
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)


def test_every_label_number_and_section_is_there(page, report):
    for heading in (
        "Results", "Charts", "What the controls replace", "Curves in numbers", "Thought lens", "Context",
    ):  # fmt: skip
        assert heading in page.text
    for words in (
        report.title, "not using its thoughts", "98.8 [97.4–99.4]", "annealed96.2 [94.1–97.6]95.64.28.211.69.810.4",
        "りんごが12個", "␣3991.2 %", "stands for 24 + 15 = 39 · norm 48.9 · entropy 0.35 nats", "⏎⏎28.0 %", "0␣the1␣2",
        "torch 2.9.1, transformers 5.12.0",
    ):  # fmt: skip
        assert words in page.text


def test_a_tick_for_right_and_a_cross_for_wrong(page):
    assert (page.text.count("✓"), page.text.count("✗")) == (1, 2)


def test_the_box_warns_only_when_thoughts_are_not_used(report):
    assert 'class="verdict warn"' in render_html(report, figures=False)
    assert 'class="verdict"' in render_html(replace(report, verdict="annealed uses its thoughts."), figures=False)


def test_what_is_missing_leaves_no_empty_section(bare):
    text = render_html(replace(bare, verdict=""))
    assert re.findall("<h2>(.*?)</h2>", text) == ["Results"]
    assert "<img" not in text
    assert 'class="verdict' not in text


def test_only_measured_controls_are_explained(report, controlled):
    text = Page(render_html(replace(report, rows=tuple(controlled("a", 2, 0.0, 9, zero=5))), figures=False)).text
    assert "replaced by zeros" in text
    assert "thoughts of another question" not in text


def test_without_figures_no_chart(report):
    assert "<img" not in render_html(report, figures=False)


def test_the_file_is_utf_8(report, tmp_path):
    write_html(report, tmp_path / "new" / "page.html", figures=False)
    assert "りんご" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("token", "shown"), [(" the", "␣the"), ("a\n\tb", "a⏎⇥b"), ("", "∅"), ("\x00", "␀"), ("\u3000", "␣"), ("猫", "猫")]
)
def test_white_space_is_visible(token, shown):
    assert visible(token) == shown
