"""What Python calls does what the commands do, tells it or not, and raises what is wrong."""

import json
from pathlib import Path

import pytest

from latent_gemma import (
    ConfigError,
    DataError,
    DataSettings,
    Eval,
    Grpo,
    Sft,
    StudyOptions,
    TrainSettings,
    evaluate,
    study,
    train,
)
from latent_gemma.cli import main
from latent_gemma.recipes.stage import command_line

CHAINS = DataSettings("chains:length=2", limit=16)
SETTINGS = TrainSettings(steps=2, batch_size=8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_call_leaves_what_the_command_leaves(capfd):
    called = train(Sft("tiny", CHAINS, "called", SETTINGS), progress=False)
    assert capfd.readouterr() == ("", "")
    given = ["--data", "chains:length=2", "--limit", "16", "--steps", "2", "--batch-size", "8"]
    assert main(["train", "sft", "--model", "tiny", *given, "--out", "typed"]) == 0
    weights = [Path(run, "model", "model.safetensors").read_bytes() for run in ("called", "typed")]
    assert weights[0] == weights[1]
    records = [json.loads(Path(run, "run.json").read_text())["config"] for run in ("called", "typed")]
    assert records[0] | {"out": ""} == records[1] | {"out": ""}
    assert called.finished
    assert called.record["recipe"] == "sft"
    assert called.metrics[-1]["step"] == 2

    found = evaluate(Eval((called.model,), CHAINS, max_new_tokens=4, out="eval"), progress=False)
    assert found.folder == Path("eval")
    kept = json.loads(Path("eval/report.json").read_text())
    assert [row.accuracy for row in found.report.rows] == [row["correct"] / 16 for row in kept["rows"]]
    assert main(["train", "sft", "--config", "called/run.json", "--out", "again"]) == 0
    assert Path("again/model/model.safetensors").read_bytes() == weights[0]


def test_a_stopped_stage_says_so_and_goes_on():
    stopped = train(Sft("tiny", CHAINS, "run", TrainSettings(steps=2, batch_size=8, max_hours=1e-9)), progress=False)
    assert (stopped.finished, stopped.record) == (False, {})
    again = train(Sft("tiny", CHAINS, "run", SETTINGS, resume="auto"), progress=False)
    assert again.finished
    assert [entry["step"] for entry in again.metrics][-1] == 2


def test_what_is_wrong_is_raised_and_leaves_nothing():
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        train(Sft("tiny", DataSettings("missing.jsonl"), "run", SETTINGS))
    with pytest.raises(ConfigError, match="no method 'wrods'"):
        study(StudyOptions("tiny", CHAINS, "study", SETTINGS, methods="wrods"))
    with pytest.raises(ConfigError, match="train takes no StudyOptions"):
        train(StudyOptions("tiny", CHAINS, "run", SETTINGS))
    with pytest.raises(ConfigError, match="batch"):
        train(Grpo("tiny", CHAINS, "run", TrainSettings(steps=1, batch_size=3)))
    assert not [*Path().iterdir()]


@pytest.mark.parametrize(
    ("argv", "recipe", "told"),
    [
        (["/bin/latent-gemma", "train", "sft", "--data", "a b"], "sft", "latent-gemma train sft --data 'a b'"),
        (["/lib/latent_gemma/__main__.py", "demo"], "demo", "latent-gemma demo"),
        (["/lib/ipykernel_launcher.py", "-f", "/secret.json"], "sft", "latent-gemma train sft --config run.json"),
        (["notebook.py"], "study", "latent-gemma study --config run.json"),
    ],
)
def test_the_command_that_is_recorded_runs_again(argv, recipe, told, monkeypatch):
    monkeypatch.setattr("sys.argv", argv)
    assert command_line(recipe) == told
