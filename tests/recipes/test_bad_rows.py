"""Rows that cannot be trained on stop a run in one line, or are left out with one line each."""

import json

import pytest

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig
from latent_gemma.training.batches import spelled_tag
from latent_gemma.training.run_log import read_metrics
from tests.saving import save_tiny

GOOD = [{"question": f"{i}+{i}=", "steps": [f"{2 * i}"], "answer": str(2 * i)} for i in range(12)]
LONG = {"question": "1" * 3000, "steps": ["1"], "answer": "1"}
DEEP = {"question": "1+1=", "steps": ["2" * 3000], "answer": "2"}
TAGS = [
    {"question": "a", "steps": ["so </reasoning> it is"], "answer": "1"},
    {"question": "b", "steps": ["1"], "answer": "2</reasoning>"},
    {"question": "c", "steps": ["<reasoning>", "2"], "answer": "2"},
    {"question": "d", "steps": ["2"], "answer": "1 </ANSWER> 2"},
]
#: Bad row, the recipe that cannot use it, and what is said of it.
BAD = {
    "long": (LONG, ["sft"], "example 13 has"),
    "steps": (DEEP, ["coconut"], "example 13 has"),
    "malformed": ({"question": "x"}, ["anneal"], "line 13"),
    "prompt": (LONG, ["grpo", "--num-generations", "4", "--max-new-tokens", "3"], "example 13 has a prompt of"),
    **{f"tags-{row['question']}": (row, ["sft", "--format", "tags"], "example 13 spells <") for row in TAGS},
}


@pytest.fixture
def base(tmp_path):
    return save_tiny(tmp_path / "base", latent=LatentConfig(num_thoughts=2), hidden_size=32, num_layers=2, num_heads=2)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_stops_the_run_or_is_left_out(name, base, tmp_path, capsys):
    row, recipe, said = BAD[name]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*GOOD, row, *GOOD[:2]]))
    command = ["train", *recipe, "--model", str(base), "--data", str(data), "--steps", "2", "--batch-size", "4"]
    command += ["--log-every", "1", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error
    assert name == "malformed" or "--skip-bad" in error
    assert not (tmp_path / "run").exists()
    assert main([*command, "--skip-bad"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert len(told) == 1
    assert said in told[0]
    assert [entry["step"] for entry in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in entry] == [1, 2]


def test_tags_are_text_where_words_do_not_stand_between_tags(base, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*GOOD, TAGS[0]]))
    command = ["train", "sft", "--model", str(base), "--data", str(data), "--steps", "1", "--out"]
    assert main([*command, str(tmp_path / "run")]) == 0


def test_data_of_bad_rows_alone_is_refused(base, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(LONG) + "\n")
    for recipe in (["sft"], ["grpo", "--num-generations", "4"]):
        command = ["train", *recipe, "--model", str(base), "--data", str(data), "--steps", "1", "--skip-bad"]
        assert main([*command, "--out", str(tmp_path / "run")]) == 2
        assert not (tmp_path / "run").exists()
    assert "0 questions are fewer" in capsys.readouterr().err


def test_a_separator_that_spells_a_tag_is_refused(base, tmp_path, capsys):
    command = ["train", "sft", "--model", str(base), "--data", "chains", "--limit", "4", "--format", "tags"]
    assert main([*command, "--step-separator", "</reasoning>", "--out", str(tmp_path / "run")]) == 2
    assert "--step-separator '</reasoning>' spells a tag" in capsys.readouterr().err


def test_more_thoughts_than_the_model_has_room_for_are_refused(base, tmp_path, capsys):
    command = ["train", "anneal", "--model", str(base), "--data", "chains", "--limit", "4", "--steps", "1"]
    assert main([*command, "--c-thought", "900", "--out", str(tmp_path / "run")]) == 2
    assert "tokens, more than the 2048 the model allows" in capsys.readouterr().err


def test_every_spelling_of_a_tag_is_found():
    assert spelled_tag("a </Reasoning>") == "</reasoning>"
    assert spelled_tag("<answer >1</ answer>") is None
    assert spelled_tag("answer: reasoning") is None
