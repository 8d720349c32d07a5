"""The main job: a small twin that always runs, and the whole of it with its bars."""

import json

import pytest

from latent_gemma.cli import main
from latent_gemma.inspection.select import control_rows, main_rows
from latent_gemma.recipes.demo import METHODS, Demo, run_demo


def test_the_demo_writes_models_and_a_report(tmp_path, capsys):
    out = tmp_path / "demo"
    report = run_demo(Demo(out=out, items=12, scale=0.01))
    labels = list(dict.fromkeys(row.label for row in report.rows))
    assert labels == ["no reasoning", "words", "COCONUT", "annealed"]
    for method in METHODS:
        folder = out / method.label.lower().replace(" ", "-")
        assert json.loads((folder / "run.json").read_text())["recipe"] == "demo"
        assert (folder / "model" / "model.safetensors").is_file()
    names = {path.name for path in out.iterdir()}
    assert {
        "report.html",
        "report.json",
        "accuracy_over_k.png",
        "accuracy_over_p.png",
        "controls.png",
        "model",
    } <= names
    shown = capsys.readouterr().out
    assert all(label in shown for label in ("words", "COCONUT", "annealed"))
    assert report.verdict.split(":")[0] in shown.replace("\n", " ")
    assert main(["ask", str(out), "1+2+3+4+5=", "--thoughts", "--max-new-tokens", "3"]) == 0
    assert main(["demo", "--out", str(out)]) == 2, "a finished demo is not overwritten"


@pytest.mark.slow
def test_the_demo_meets_its_bars(tmp_path):
    rows = run_demo(Demo(out=tmp_path / "demo")).rows
    mains = main_rows(rows)
    none, annealed, coconut = mains["no reasoning"], mains["annealed"], mains["COCONUT"]
    assert annealed.p == 0.0
    assert annealed.accuracy >= 0.95
    assert none.accuracy < 0.5
    for name in ("zero", "swap"):
        assert control_rows(rows, annealed)[name].accuracy < 0.5
        assert control_rows(rows, coconut)[name].low < none.high
    assert coconut.accuracy >= none.accuracy + 0.20
    assert coconut.low > none.high


def test_the_words_demo_writes_models_and_a_report(tmp_path, capsys):
    out = tmp_path / "words"
    assert main(["demo", "--words", "--out", str(out), "--items", "8", "--scale", "0.01"]) == 0
    report = json.loads((out / "report.json").read_text())
    labels = [row["label"] for row in report["rows"]]
    assert labels == ["base", "base, vote", "SFT", "SFT, vote", "SFT + GRPO", "SFT + GRPO, vote"]
    assert [table["title"].split(":")[0] for table in report["tables"]] == ["Consensus", "Coverage"]
    for folder in ("sft", "sft-grpo"):
        assert json.loads((out / folder / "run.json").read_text())["recipe"] == "demo --words"
    assert {"maj_at_k.png", "pass_at_k.png", "report.md"} <= {path.name for path in out.iterdir()}
    capsys.readouterr()
    assert main(["vote", str(out), "1+2+3+4+5=", "--show-traces", "--max-new-tokens", "16"]) == 0
    assert "log-probability" in capsys.readouterr().out


@pytest.fixture(scope="module")
def words_rows(tmp_path_factory):
    """Rows of the whole words demo by label."""
    out = tmp_path_factory.mktemp("demo") / "words"
    return {row.label: row for row in run_demo(Demo(words=True, out=out)).rows}


@pytest.mark.slow
def test_the_words_demo_meets_its_bars(words_rows):
    sft, grpo = words_rows["SFT"], words_rows["SFT + GRPO"]
    assert sft.complete >= 0.99 * sft.total
    assert grpo.accuracy >= sft.accuracy + 0.05
    assert grpo.low > sft.high
    assert words_rows["SFT, vote"].accuracy >= sft.accuracy


@pytest.mark.slow
@pytest.mark.xfail(reason="seed 0: 93.5 % by a vote of 5, 94.7 % in one greedy pass; their intervals overlap")
def test_a_vote_is_no_worse_than_one_pass_after_grpo(words_rows):
    assert words_rows["SFT + GRPO, vote"].accuracy >= words_rows["SFT + GRPO"].accuracy
