"""Escape sequences, markup and tags in questions and answers reach the terminal and the reports as text."""

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from latent_gemma.cli import main
from latent_gemma.evaluation.items import FILE, Item, to_line
from latent_gemma.evaluation.results import Chart, EvalReport, Grid, Point, ThoughtTrace
from latent_gemma.inspection.html_report import render_html
from latent_gemma.inspection.plots import figures, render
from latent_gemma.inspection.tables import further_tables, results_table, to_markdown
from latent_gemma.inspection.write import write_report
from latent_gemma.model import LatentConfig
from latent_gemma.recipes import ask, vote
from latent_gemma.training import reward_watch
from latent_gemma.training.rewarding import Sample
from latent_gemma.training.run_log import append_lines, keep_lines, read_metrics
from tests.inspection.conftest import make_row, make_step, with_controls
from tests.saving import save_tiny

#: Retitles the window, clears the screen, hides what follows, and turns a line around.
ATTACKS = ("\x1b]0;owned\x07", "\x1b[2J\x1b[8m", "\x9b2J", "safe\rrm -rf", "\u202egnp.exe", "\x00\x08\x7f", "\udcff")
ATTACK = "".join(ATTACKS) + "<script>alert(1)</script>![x](http://evil.example/a.png)[red]|"
STEERING = {chr(c) for c in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0xDCFF)}


def steers(text, allowed=""):
    return sorted(hex(ord(c)) for c in set(text) & STEERING - set(allowed))


def printed(renderable):
    """What a terminal without colours receives: every escape in it came from the text."""
    console = Console(file=io.StringIO(), color_system=None, width=400)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def report():
    rows = (make_row("words", 0, 400), *with_controls(ATTACK, 3, 0.0, 171, zero=10, swap=12))
    steps = (make_step(1, (ATTACK, "7"), (0.6, 0.2), ATTACK, (ATTACK,)),)
    grid = Grid(ATTACK, ("question", ATTACK), ((ATTACK, ATTACK),), ATTACK)
    chart = Chart("own", ATTACK, "x", "y", {ATTACK: (Point(1.0, 0.5), Point(2.0, 0.7))})
    curves = {ATTACK: [{"step": 1, "value": 1.0}, {"step": 2, "value": 0.5}]}
    traces = (ThoughtTrace(ATTACK, ATTACK, ATTACK, ATTACK, False, steps),)
    return EvalReport(ATTACK, ATTACK, rows, traces, {ATTACK: ATTACK}, curves, (grid,), (chart,))


def test_tables_of_a_report(report):
    for table in (results_table(report), *further_tables(report)):
        text = printed(table)
        assert not steers(text)
        assert "␛]0;owned␇" in text, "shown, not dropped"


def test_markdown_html_and_charts(report, tmp_path):
    markdown, page = to_markdown(report), render_html(report)
    assert not steers(markdown)
    assert not steers(page)
    assert "<script" not in markdown
    assert "<script" not in page
    assert "![x](" not in markdown
    for figure in figures(report).values():
        ET.fromstring(render(figure, "svg"))
    write_report(report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"][1]["label"].startswith("\x1b")


def test_samples_of_grpo(monkeypatch, tmp_path):
    stream = io.StringIO()
    monkeypatch.setattr(reward_watch, "Console", lambda: Console(file=stream, color_system=None, width=400))
    reward_watch.SampleTable(1, tmp_path).step_ended(1, [Sample(ATTACK, ATTACK, {"right": 1.0})])
    assert not steers(stream.getvalue())
    assert json.loads((tmp_path / "samples.jsonl").read_text(encoding="utf-8"))["completion"] == ATTACK


def test_a_log_of_samples_is_read_back_whole(tmp_path):
    """JSON leaves some line ends as they are, and a kill may cut a character in two."""
    path, entries = (
        tmp_path / "samples.jsonl",
        [{"step": n, "completion": f"{n}\u2028\x85{ATTACK}猫"} for n in (1, 2, 3)],
    )
    append_lines(path, entries)
    assert read_metrics(path) == entries
    path.write_bytes(path.read_bytes()[:-4])
    assert read_metrics(path) == entries[:2]
    keep_lines(path, 1)
    assert read_metrics(path) == entries[:1]


class Parrot:
    """A tokenizer that decodes whatever a model wrote to the attack."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, *args, **kwargs):
        return self.tokenizer(*args, **kwargs)

    def decode(self, *args, **kwargs):
        return f"<reasoning>{ATTACK}</reasoning><answer>{ATTACK}</answer>"


@pytest.mark.parametrize("options", [{}, {"thoughts": True}, {"mode": "words"}, {"paths": 2}])
def test_ask(options, make_model, tokenizer, monkeypatch, capsys):
    model = make_model(num_thoughts=2, words_format="tags" if "mode" in options else "markers")
    monkeypatch.setattr(ask, "load_model", lambda name: (model, Parrot(tokenizer)))
    ask.run_ask(ask.Ask("tiny", "1+1=", ask.Asking(max_new_tokens=3, **options)))
    said = capsys.readouterr().out
    assert "␛" in said
    assert not steers(said)


@pytest.mark.parametrize("show", [True, False])
def test_vote(show, make_model, tokenizer, monkeypatch, capsys):
    model = make_model(words_format="tags")
    monkeypatch.setattr(vote, "load_model", lambda name: (model, Parrot(tokenizer)))
    vote.run_vote(vote.Vote("tiny", "1+1=", mode="words", traces=2, max_new_tokens=3, show_traces=show))
    said = capsys.readouterr().out
    assert "␛" in said
    assert not steers(said)


def test_preview_and_errors_that_quote_a_file(tmp_path, capsys):
    attack = ATTACK.replace("\udcff", "")
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    row = {"question": attack, "answer": attack, "steps": [attack]}
    good.write_text(json.dumps(row), encoding="utf-8")
    bad.write_text(json.dumps({attack: attack}), encoding="utf-8")
    assert main(["data", "preview", "--data", str(good)]) == 0
    assert main(["data", "preview", "--data", str(bad)]) == 2
    out, err = capsys.readouterr()
    assert not steers(out)
    assert not steers(err)
    assert "␛" in out
    assert "␛" in err
    assert err.count("\n") == 1


def test_an_evaluation_of_hostile_questions(tmp_path, capsys):
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    attack = ATTACK.replace("\udcff", "")
    rows = [{"question": attack + str(n), "answer": attack} for n in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {attack: 1}]), encoding="utf-8")
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    model = save_tiny(tmp_path / "model", latent=LatentConfig(num_thoughts=1), **sizes)
    options = ["--data", str(data), "--skip-bad", "--max-new-tokens", "2", "--out", str(out)]
    with torch.no_grad():
        assert main(["eval", str(model), *options]) == 0
    said, _ = capsys.readouterr()
    assert not steers(said)
    for name in ("report.md", "report.html"):
        assert not steers((out / name).read_text(encoding="utf-8")), name


def test_a_comparison_reads_labels_from_files(report, tmp_path, capsys):
    rows = [replace(make_row(ATTACK, 0, 1, total=1), label=ATTACK)]
    item = Item(ATTACK, 0, None, "none", 0, ATTACK, "en", "en", (ATTACK,), ATTACK, "", None, True, True, True, None,
                1, 0, True, 0.1, None)  # fmt: skip
    for name, label in (("a", ATTACK), ("b", "plain")):
        write_report(EvalReport("t", "v", tuple(replace(row, label=label) for row in rows)), tmp_path / name)
        (tmp_path / name / FILE).write_bytes(to_line(replace(item, label=label, correct=name == "a")))
    code = main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")])
    out, err = capsys.readouterr()
    assert not steers(out + err)
    assert code == 0
