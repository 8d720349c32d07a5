"""What a person who trains reads at 80 columns: what is going to happen, what came of it, a next command that works."""

import json
import shlex
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from latent_gemma.cli import main
from latent_gemma.model import LatentConfig
from latent_gemma.recipes import ending
from tests.saving import save_tiny

TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A fresh folder with a tiny model and rows in it, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(ending, "ROWS", 4)
    save_tiny(tmp_path / "base", latent=LatentConfig(num_thoughts=2), **TINY)
    rows = [{"question": f"{i}+1+1=", "steps": [str(i + 1), str(i + 2)], "answer": str(i + 2)} for i in range(16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def said(capsys, *words):
    """Run a verb; its lines, none of them too long but the last, and what each label says."""
    assert main([*words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines[:-1]) <= 80
    told, label = {}, ""
    for line in lines:
        label = line.split("  ")[0] or label
        told[label] = f"{told.get(label, '')} {line.removeprefix(label).strip()}".strip()
    return told


def test_a_text_stage_says_its_plan_and_what_came_of_it_and_the_next_commands_run(here, capsys):
    command = (
        "train sft --model base --data rows.jsonl --holdout 6 --batch-size 5 --steps 3 --log-every 1 --out a/words"
    )
    told = said(capsys, *command.split(), "--rank", "2")
    # by hand, a token a character: bos, question, line end, bot, steps with their line ends, eot, answer, end
    rows = [1 + len(f"{i}+1+1=") + 1 + 1 + len(f"{i + 1}\n{i + 2}\n") + 1 + len(f"{i + 2}") + 1 for i in range(10)]
    assert told["data"] == f"10 rows of {sum(rows)} tokens, {max(rows)} in the longest; 4 more held out"
    assert told["plan"] == "3 steps of 5 rows; passes over the data: 2"
    assert told["thoughts"] == "none, the steps are written"
    # an adapter of rank 2 on all projections of 2 layers, two heads of queries to one of keys
    q, kv, d, i = 32, 16, 32, 64
    sizes = 2 * 2 * ((d + q) * 2 + (d + kv) * 2 + (d + i) * 3)
    assert told["trains"].startswith(f"{sizes:,} of ")
    assert told["writes"].startswith("a/words; a checkpoint every tenth of the run and every 10 min, the last two")
    metrics = [json.loads(line) for line in (here / "a/words/metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in metrics if "loss" in entry]
    assert told["loss"] == f"{losses[-1]:.4g}, {losses[0]:.4g} at first"
    assert told["done"].startswith("3 steps in ")
    assert told["held out"].startswith(("0 of 4 right", "1 of 4 right"))
    assert (told["model"], told["plot"]) == ("a/words/model", "a/words/training.png")
    next_words = shlex.split(told["next"])
    assert next_words == shlex.split(
        "latent-gemma train coconut --model a/words --data rows.jsonl --holdout 6 --batch-size 5 --trains thoughts "
        "--adapter lora --out a/words-coconut"
    )
    told = said(capsys, *next_words[1:])
    assert told["thoughts"] == "K 1 to 2 at most, the model learns where to end; p 0"
    next_words = shlex.split(told["next"])
    assert next_words == shlex.split("latent-gemma eval a/words-coconut --data rows.jsonl --holdout 6")
    assert main([*next_words[1:], "--max-new-tokens", "2", "--controls", "none"]) == 0


def test_without_rows_kept_back_there_is_a_question_to_ask(here, capsys):
    told = said(
        capsys, "train", "anneal", "--model", "base", "--data", "rows.jsonl", "--steps", "1", "--out", "out dir"
    )
    assert "held out" not in told
    assert told["thoughts"] == "K 6 at most, the model learns where to end; p 0.9 to 0"
    assert told["writes"].endswith("the best by training loss are kept")
    assert shlex.split(told["next"]) == ["latent-gemma", "ask", "out dir", "0+1+1="]
    assert main([*shlex.split(told["next"])[1:], "--max-new-tokens", "2"]) == 0


def test_tags_are_made_for_grpo_which_speaks_as_well(here, capsys, monkeypatch):
    common = ["--data", "chains:length=2", "--limit", "8", "--steps", "1", "--log-every", "1"]
    told = said(capsys, "train", "sft", "--model", "base", "--format", "tags", *common, "--out", "tags")
    assert told["thoughts"] == "none, the steps are written between tags"
    next_words = shlex.split(told["next"])
    assert next_words[1:] == shlex.split("train grpo --model tags --data chains:length=2 --limit 8 --out tags-grpo")
    short = ["--steps", "1", "--max-new-tokens", "4", "--sample-every", "1", "--log-every", "1"]
    told = said(capsys, *next_words[1:], *short)
    assert told["data"] == "8 questions"
    assert told["plan"].startswith("1 steps of 16 completions")
    assert told["reward"]
    assert shlex.split(told["next"])[1:] == shlex.split("eval tags-grpo --data chains:length=2 --limit 8")


def test_held_out_rows_are_looked_at_for_a_while_and_no_longer(here, capsys, monkeypatch):
    monkeypatch.setattr(ending, "AT_ONCE", 1)
    monkeypatch.setattr(ending, "SECONDS", 0.0)
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=iter([0.0, -1.0, -1.0, 5.0]).__next__))
    model, tokenizer = ending_model(here)
    config = type("Config", (), {"data": ending.DataSettings("rows.jsonl", holdout=6)})()
    config.train = type("Train", (), {"seed": 0})()
    rows = ending.held_out_rows(config)
    assert len(rows) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ending, "Evaluator", Always)
        assert ending._right(model, tokenizer, rows, config).startswith("2 of 2 right")


class Always:
    """An evaluator whose model is right."""

    def __init__(self, model, tokenizer, rows, settings, label):
        self.row = type("Row", (), {"correct": len(rows), "total": len(rows)})
        self.k = 0

    def measure(self, mode, k):
        return self


def ending_model(folder):
    from latent_gemma.model.loading import load_model

    return load_model(str(folder / "base"))
