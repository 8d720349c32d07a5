"""`--k auto`: every verb that asks a model leaves it the number of its thoughts, and does so where it learnt it."""

import json
from dataclasses import replace

import pytest

from latent_gemma.cli import main
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.items import FILE, read_items
from latent_gemma.model import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from tests.conftest import hesitant

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
LEARNT = LatentConfig(num_thoughts=2, learned_k=True, max_thoughts=5, trained_for="latent")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same weights, with a learnt K and with a fixed one."""
    made = []
    for name, latent in (("learnt", LEARNT), ("fixed", replace(LEARNT, learned_k=False, num_thoughts=3))):
        folder = tmp_path_factory.mktemp(name)
        hesitant(build_tiny(latent=latent, **SIZES)).save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
        made.append(str(folder))
    return made


def run(*args):
    return main([str(arg) for arg in args])


def test_eval_measures_the_models_own_number_first(folders, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data", "chains:length=2", "--limit", 6, "--max-new-tokens", 4, "--traces", 2, "--votes", 2]
    assert run("eval", folders[0], *options, "--k", "1,auto", "--p", "0.5", "--out", out) == 0
    rows = json.loads((out / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["k"] for row in rows if row["control"] == "none"][:4] == ["auto", 0, 1, "auto"]
    items = [item for item in read_items(out / FILE) if (item.k, item.p, item.control) == ("auto", 0.0, "none")]
    model, tokenizer = load_model(folders[0])
    single = [item for item in items if not item.traces]
    batch = answer_batch(
        model, Frame(tokenizer, model.config.latent), [item.question for item in single], "latent", "auto",
        max_new_tokens=4,
    )  # fmt: skip
    assert [item.latent_steps for item in single] == batch.num_thoughts
    assert len(set(batch.num_thoughts)) > 1
    # going on with what is finished finds the items under their setting
    lines = (out / FILE).read_bytes().splitlines(keepends=True)
    (out / FILE).write_bytes(b"".join(lines[: len(lines) // 2]))
    capsys.readouterr()
    assert run("eval", folders[0], *options, "--k", "1,auto", "--p", "0.5", "--out", out, "--resume", "auto") == 0
    again = json.loads((out / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["correct"] for row in again] == [row["correct"] for row in rows]


def test_a_model_with_a_fixed_number_can_be_left_to_choose(folders, tmp_path):
    out = tmp_path / "out"
    assert run("eval", folders[1], "--data", "chains:length=2", "--limit", 4, "--max-new-tokens", 4, "--k", "auto",
               "--controls", "none", "--out", out, "--traces", 0) == 0  # fmt: skip
    rows = json.loads((out / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [row["k"] for row in rows] == [3, "auto"]


@pytest.mark.parametrize("verb", ["ask", "vote"])
def test_the_learnt_number_is_the_default(verb, folders, capsys):
    learnt, fixed = folders
    said = []
    shown = ["--thoughts"] if verb == "ask" else ["--temperatures", "1.0,2.0", "--show-traces"]
    for model, options in ((learnt, []), (learnt, ["--k", "auto"]), (fixed, ["--k", "auto"]), (learnt, ["--k", "3"]),
                           (fixed, [])):  # fmt: skip
        assert run(verb, model, "what is 31 + 4?", "--max-new-tokens", 5, *shown, *options) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    assert said[3] == said[4]
    assert said[0] != said[3]


def test_paths_are_explored_behind_the_learnt_number(folders, capsys):
    assert run("ask", folders[0], "1+2=", "--paths", 3, "--k", "auto") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_what_is_no_number_is_told(folders, capsys):
    assert run("ask", folders[0], "1+2=", "--k", "many") == 2
    assert "auto" in capsys.readouterr().err
    assert run("eval", folders[0], "--data", "chains:length=2", "--k", "1,many") == 2
    assert "'many' is no number" in capsys.readouterr().err
