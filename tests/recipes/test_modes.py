"""A model is asked as it was trained, whoever asks, and every row says how."""

import json
from pathlib import Path

import pytest
from transformers import Gemma2ForCausalLM

from latent_gemma.cli import main
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation import engine
from latent_gemma.evaluation.items import FILE, read_items
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.evaluation.voting import Voter
from latent_gemma.model import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import own_mode
from latent_gemma.recipes import ask
from latent_gemma.recipes.contestants import line_up, split_mode
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
CHAINS = ["--data", "chains:length=2", "--limit", "8"]
TRAIN = [*CHAINS, "--steps", "1", "--batch-size", "8"]
GROUPS = ["--num-generations", "4", "--max-new-tokens", "3", "--sample-every", "0"]
#: What was trained -> how it is asked.
STAGES = {
    "words": (["sft", "--model", "base"], "words"),
    "none": (["sft", "--model", "base", "--reasoning", "none"], "none"),
    "tagged": (["sft", "--model", "base", "--format", "tags"], "words"),
    "coconut": (["coconut", "--model", "words", "--max-latent-stage", "2"], "latent"),
    "dropped": (["coconut", "--model", "words", "--max-latent-stage", "0", "--first-stage", "0"], "words"),
    "annealed": (["anneal", "--model", "words"], "latent"),
    "grpo-latent": (["grpo", "--model", "annealed", *GROUPS], "latent"),
    "grpo-none": (["grpo", "--model", "none", *GROUPS], "none"),
    "grpo-words": (["grpo", "--model", "annealed", "--mode", "words", *GROUPS], "words"),
    "grpo-plain": (["grpo", "--model", "plain", *GROUPS], "words"),
}


def run(*args):
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a model of every stage, a latent base and a plain Gemma."""
    folder = tmp_path_factory.mktemp("trained")
    save_tiny(folder / "base", latent=LatentConfig(num_thoughts=2), **SIZES)
    model, tokenizer = load_model(str(folder / "base"))
    stock = {key: value for key, value in model.config.to_dict().items() if key not in ("latent", "model_type")}
    plain = Gemma2ForCausalLM(Gemma2ForCausalLM.config_class(**stock))
    plain.save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (command, _) in STAGES.items():
            assert run("train", *command, *TRAIN, "--out", name) == 0
    return folder


@pytest.fixture(autouse=True)
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_trained_a_model_for(name):
    _, mode = STAGES[name]
    latent = load_model(name)[0].config.latent
    assert own_mode(latent) == mode
    assert latent.trained_for == json.loads(Path(name, "run.json").read_text())["mode"] == mode
    assert Voter(*load_model(name)).mode == mode


def test_every_verb_asks_a_model_as_it_was_trained(tmp_path, monkeypatch, capsys):
    asked = []
    for module, name in ((engine, "answer_batch"), (ask, "answer")):
        own = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, _own=own, **named: (asked.append(args[3]), _own(*args, **named))[1]
        )
    short = [*CHAINS, "--max-new-tokens", 3]
    for name in ("words", "none", "tagged", "annealed"):
        mode = STAGES[name][1]
        asked.clear()
        assert run("eval", name, *short, "--traces", 0, "--controls", "none", "--out", tmp_path / name) == 0
        rows = json.loads((tmp_path / name / "report.json").read_text())["rows"]
        assert {row["mode"] for row in rows} == {item.mode for item in read_items(tmp_path / name / FILE)} == {mode}
        assert rows[0]["label"] == {"none": "no reasoning"}.get(mode, mode)
        assert (rows[0]["complete"] is not None) == (mode == "words")
        assert run("ask", name, "1+2+3=", "--max-new-tokens", 3) == 0
        assert run("ask", name, "1+2+3=", "--paths", 2, "--max-new-tokens", 3) == 0
        assert set(asked) == {mode}
    assert run("eval", "none", *short, "--votes", 5, "--out", tmp_path / "vote") == 0
    voted = json.loads((tmp_path / "vote" / "report.json").read_text())
    assert [row["mode"] for row in voted["rows"]] == ["none", "none"]


def test_a_plain_gemma_is_asked_plainly(tmp_path):
    model, tokenizer = load_model("plain")
    assert own_mode(model.config.latent) == "words"
    prompt = Voter(model, tokenizer).frame.prompt("1+2=", "words")
    assert tokenizer.decode(prompt) == "<bos>1+2=\n", "no marker that it has never seen"
    assert run("eval", "plain", "words", *CHAINS, "--max-new-tokens", 3, "--out", tmp_path / "out") == 0
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["rows"]
    assert [(row["label"], row["mode"]) for row in rows] == [("plain", "words"), ("words", "words")]


def test_one_model_can_be_asked_in_another_mode(tmp_path, capsys):
    out = tmp_path / "out"
    models = ["words", "words:none", "annealed", "annealed:words"]
    assert run("eval", *models, *CHAINS, "--controls", "none", "--max-new-tokens", 3, "--traces", 0, "--out", out) == 0
    rows = json.loads((out / "report.json").read_text())["rows"]
    modes = {
        "words": "words",
        "words:none": "none",
        "annealed": "latent",
        "annealed:words": "words",
    }
    assert {row["label"]: row["mode"] for row in rows} == modes
    assert {item.label: item.mode for item in read_items(out / FILE)} == modes
    assert "annealed:words" in capsys.readouterr().out
    assert run("compare", out, "--out", tmp_path / "compared") == 0
    compared = json.loads((tmp_path / "compared" / "report.json").read_text())
    assert {row["label"]: row["mode"] for row in compared["rows"]} == modes
    again = ["eval", *models, *CHAINS, "--controls", "none", "--max-new-tokens", 3, "--traces", 0, "--out", out]
    assert run(*again, "--resume", "auto") == 0
    capsys.readouterr()
    again[1] = "words:latent"
    assert run(*again, "--resume", "auto") == 2
    assert "another mode of model 1 (words there, latent here)" in capsys.readouterr().err


def test_a_mode_stands_behind_a_colon_that_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:none").mkdir()
    assert split_mode("runs/words:none") == ("runs/words", "none")
    assert split_mode("owner/name@main:words") == ("owner/name@main", "words")
    assert split_mode("C:\\runs\\x:latent") == ("C:\\runs\\x", "latent")
    for whole in ("odd:none", "C:\\runs\\x", "C:/runs/x", "C:model", "runs/words", ":words"):
        assert split_mode(whole) == (whole, None)
    for typed in ("runs/words:wrods", "runs/words:", "owner/name:Words"):
        with pytest.raises(ConfigError, match="there is no mode"):
            split_mode(typed)


def test_a_model_that_is_named_twice_is_told_apart_by_its_mode(here):
    with pytest.raises(ConfigError, match="named twice"):
        line_up(["words", "words:words"], "auto", None, EvalSettings())
    two = line_up(["words", "words:latent"], "auto", None, EvalSettings(ks=(0, 3), controls=False))
    assert [(one.label, one.mode, one.k) for one in two] == [("words", "words", 3), ("words:latent", "latent", 3)]
    assert [point.k for point in two[0].points] == [0]
    assert [point.k for point in two[1].points] == [3, 0]


def test_rows_and_items_of_older_versions_are_read(tmp_path):
    out = tmp_path / "out"
    options = ["--controls", "none", "--max-new-tokens", 3, "--traces", 0]
    assert run("eval", "words", "annealed", *CHAINS, *options, "--out", out) == 0
    report = json.loads((out / "report.json").read_text())
    for row in report["rows"]:
        del row["mode"]
    (out / "report.json").write_text(json.dumps(report))
    items = [json.loads(line) for line in (out / FILE).read_text().splitlines()]
    (out / FILE).write_text("".join(json.dumps({k: v for k, v in i.items() if k != "mode"}) + "\n" for i in items))
    assert [EvalRow.from_dict(row).mode for row in report["rows"]] == ["words", "latent"]
    assert run("compare", out, "--out", tmp_path / "compared") == 0
    rows = json.loads((tmp_path / "compared" / "report.json").read_text())["rows"]
    assert [row["mode"] for row in rows] == ["words", "latent"]
