"""A study that is stopped reports nothing of what is unfinished, and goes on to the numbers of one that never was."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.recipes import demo, demo_words
from tests.faults.recipes import without_times
from tests.faults.test_kill import ENDS, play

INTERRUPT, TERMINATE, KILL = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGKILL)
SHORT = ["--scale", "0.02", "--items", "12", "--resume", "auto"]
#: Command line, run folder of each stage -> its steps, what strikes it, and the seed of when.
STUDIES = {
    "demo": (
        ["demo", *SHORT],
        {method.folder: max(1, round(method.steps * 0.02)) for method in demo.METHODS},
        [("step", INTERRUPT), ("step", TERMINATE), ("evaluation", KILL), ("step", INTERRUPT)],
        1,
    ),
    "demo-words": (
        ["demo", "--words", *SHORT],
        {"sft": round(demo_words.SFT.steps * 0.02), "sft-grpo": round(demo_words.GRPO.steps * 0.02)},
        [("rollout", TERMINATE), ("step", INTERRUPT), ("step", KILL), ("evaluation", TERMINATE)],
        2,
    ),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    return play(folder, {name: (arguments, strikes, seed) for name, (arguments, _, strikes, seed) in STUDIES.items()})


def rows(folder):
    timed = ("seconds_per_answer", "seconds_range", "peak_mem_gib")
    report = json.loads((folder / "report.json").read_text())
    return [{key: value for key, value in row.items() if key not in timed} for row in report["rows"]]


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_is_stopped_ends_as_if_it_never_was(played, name):
    _, stages, strikes, _ = STUDIES[name]
    ends = json.loads((played / name / "ends.json").read_text())
    log = (played / name / "cut.log").read_text()
    for code, cause, done in ends:
        assert code in ENDS[cause.split()[0]], (cause, log[-3000:])
        assert done.items() <= {**stages, "report": 0}.items(), "what is saved as finished has had all of its steps"
        assert ("report" in done) == (cause == "end")
    assert len([cause for _, cause, _ in ends if cause != "end"]) == len(strikes), ends
    whole, cut = played / name / "whole", played / name / "cut"
    assert rows(cut) == rows(whole)
    told = [cause for _, cause, _ in ends if cause != "end" and "KILL" not in cause]
    assert log.count("unfinished and not reported: ") == len(told)
    assert "missing keys" not in log, "tied weights lie in a checkpoint once"
    assert not list(cut.rglob("*.partial"))
    for stage, steps in stages.items():
        records = [json.loads((folder / stage / "run.json").read_text()) for folder in (whole, cut)]
        assert [record["steps"] for record in records] == [steps, steps]
        assert without_times(records[0]["metrics"]) == without_times(records[1]["metrics"])
        weights = [load_file(folder / stage / "model" / "model.safetensors") for folder in (whole, cut)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not list(cut.rglob("*.partial"))
