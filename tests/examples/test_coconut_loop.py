"""The plain loop runs, learns, keeps to its length, and lays out rows as the curriculum of the package does."""

import random
import re
import runpy
from argparse import Namespace
from pathlib import Path

import pytest

from latent_gemma.cli import main
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.model.prompt import Frame
from latent_gemma.training.batches import build_row, encode_examples, pad_rows
from latent_gemma.training.curriculum import CoconutCurriculum, Stage
from tests.saving import save_tiny

PATH = Path(__file__).parents[2] / "examples" / "coconut_loop.py"
LOOP = runpy.run_path(str(PATH))


def test_it_is_short():
    assert len(PATH.read_text(encoding="utf-8").splitlines()) <= 150


def run(folder, steps, *more):
    base = save_tiny(folder / "base", hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128)
    task = ["--data", "chains:length=2;ops=+;modulus=5", "--max-stage", "2", "--limit", "2000", "--items", "50"]
    return LOOP["main"](
        ["--model", str(base), *task, "--batch-size", "32", "--lr", "4e-3", "--steps", str(steps), *more]
    )


def test_it_runs_and_makes_a_model_the_verbs_take(tmp_path, capsys):
    assert 0.0 <= run(tmp_path, 8, "--out", str(tmp_path / "model")) <= 1.0
    out = capsys.readouterr().out
    first, *_, last = [float(loss) for loss in re.findall(r"stage \d, step 0: loss ([\d.]+) nats", out)]
    assert last < first
    assert "of 50 questions right with K = 2 thoughts" in out
    assert main(["ask", str(tmp_path / "model"), "1+2+3=", "--thoughts", "--max-new-tokens", "4"]) == 0


@pytest.mark.slow
def test_a_tiny_model_learns_with_its_thoughts(tmp_path, capsys):
    assert run(tmp_path, 150) > 0.9


@pytest.mark.parametrize("stage", [0, 1, 3, 4])
@pytest.mark.parametrize("c_thought", [1, 2])
def test_rows_are_those_of_the_package(make_model, tokenizer, stage, c_thought):
    model = make_model(c_thought=c_thought)
    frame, spec = Frame(tokenizer, model.config.latent), DataSpec("chains:length=3", "train", 4)
    curriculum = CoconutCurriculum(stage, 3, final_stages=1, pad_latent_to_max=True)
    items = encode_examples(frame, load_examples(spec))
    at = Stage() if stage == 0 else curriculum.stage_at(0.0, 0.0)
    wanted = pad_rows([build_row(item, at, frame, random.Random(0)) for item in items], tokenizer.pad_token_id)
    args = Namespace(max_stage=3, c_thought=c_thought)
    made = LOOP["batch_of"](LOOP["read_rows"](spec, tokenizer, "\n"), stage, args, model)
    assert made["input_ids"].tolist() == wanted["input_ids"].tolist()
    assert made["attention_mask"].tolist() == wanted["attention_mask"].tolist()
    differ = made["labels"] != wanted["labels"]
    assert set(made["labels"][differ].tolist()) <= {model.config.latent.eot_id}, "given where nothing is written"
