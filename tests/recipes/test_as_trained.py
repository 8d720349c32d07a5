"""What is saved is what was trained: read again, a model has the settings, the loss and the answers it ended with."""

import itertools
import json
import random

import pytest
import torch
from safetensors.torch import load_file

from latent_gemma.cli import main
from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.model import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame, own_mode
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.recipes import grpo, train
from latent_gemma.training.batches import build_row, encode_examples, pad_rows
from latent_gemma.training.curriculum import ALL_STEPS, Stage
from latent_gemma.training.losses import latent_loss
from latent_gemma.training.run_log import read_metrics
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "test", 0), 6))
GROUPS = ["--num-generations", "4", "--max-new-tokens", "3", "--sample-every", "0", "--batch-size", "8"]
THOUGHTS = ["--trains", "thoughts", "--adapter", "lora", "--bridge", "mlp"]
#: Recipe and settings -> what of the latent configuration is saved.
RUNS = [
    (["sft"], {"trained_for": "words", "num_thoughts": 0}),
    (["sft", "--reasoning", "none"], {"trained_for": "none", "num_thoughts": 0}),
    (["sft", "--format", "tags", "--system", "Think."], {"trained_for": "words", "system": "Think."}),
    (["sft", "--rank", "2", "--lr", "1e-2", "--step-separator", ";"], {"step_separator": ";"}),
    (["sft", "--rank", "2", "--targets", "q_proj", "layers.1.mlp.up_proj"], {"trained_for": "words"}),
    (["coconut", "--max-latent-stage", "2"], {"num_thoughts": 2, "p": 0.0, "learned_k": True}),
    (["coconut", "--max-latent-stage", "2", "--no-learn-k", "--stage-mixing"], {"num_thoughts": 2, "learned_k": False}),
    (["coconut", "--max-latent-stage", "2", "--c-thought", "tokens"], {"num_thoughts": 4, "learned_k": True}),
    (["coconut", "--max-latent-stage", "1"], {"num_thoughts": 1, "learned_k": False}),
    (["pause", "--max-latent-stage", "2"], {"num_thoughts": 2, "fed": "pause", "learned_k": True}),
    (["internalize", "--max-latent-stage", "2"], {"trained_for": "none", "num_thoughts": 0, "learned_k": False}),
    (["internalize", "--max-latent-stage", "1"], {"trained_for": "words", "num_thoughts": 0}),
    (["coconut", "--max-latent-stage", "2", "--c-thought", "3"], {"num_thoughts": 6, "c_thought": 3}),
    # stages beyond the longest example's steps, of which the padded one alone thinks more
    (["coconut", "--max-latent-stage", "5", "--first-stage", "5"], {"num_thoughts": 2}),
    (["coconut", "--max-latent-stage", "5", "--first-stage", "5", "--final-stages", "1", "--pad-latent-to-max"],
     {"num_thoughts": 5}),
    # too few steps to come to the last stage
    (["coconut", "--max-latent-stage", "9", "--epochs-per-stage", "1", "--first-stage", "0"],
     {"num_thoughts": 1, "trained_for": "latent"}),
    (["coconut", "--max-latent-stage", "0", "--first-stage", "0"], {"num_thoughts": 0, "trained_for": "words"}),
    (["coconut", "--max-latent-stage", "0", "--first-stage", "1", "--final-stages", "1"],
     {"num_thoughts": 0, "trained_for": "none"}),
    (["coconut", "--max-latent-stage", "2", "--recurrence", "sequence", "--no-learn-k", *THOUGHTS],
     {"recurrence": "sequence", "learned_k": False}),
    (["anneal", "--recurrence", "parallel", "--parallel-passes", "1", "--token", "soft", "--p-start", "0.7",
       "--p-end", "0.3", "--c-thought", "1", *THOUGHTS],
      {"recurrence": "parallel", "parallel_passes": 1, "token": "soft", "p": 0.3}),
    (["anneal"], {"num_thoughts": 4, "p": 0.0, "learned_k": True, "c_thought": "tokens", "thoughts_per_token": 1.0}),
    (["anneal", "--c-thought", "1"], {"num_thoughts": 2, "p": 0.0, "learned_k": True}),
    (["anneal", "--c-thought", "1", "--no-learn-k"], {"num_thoughts": 2, "p": 0.0, "learned_k": False}),
    (["anneal", "--compress", "1,0.5", "--p-start", "0"], {"num_thoughts": 2, "thoughts_per_token": 0.5}),
    (["anneal", "--p-shape", "gated", "--gate-loss", "1e-9"], {"p": 0.9}),
    (["anneal", "--p-shape", "gated", "--gate-loss", "100", "--p-until", "1", *THOUGHTS], {}),
    (["anneal", "--p-shape", "cosine", "--p-until", "1", "--p-end", "0.2"], {}),
    (["anneal", "--p-start", "0.7", "--p-end", "0.3"], {"p": 0.3}),
    (["anneal", "--max-latent-steps", "4", "--c-thought", "2", "--no-learn-k"], {"num_thoughts": 8}),
    (["anneal", "--grow-until", "1", "--max-latent-steps", "9", "--c-thought", "1", "--no-learn-k"],
     {"num_thoughts": 8}),
    (["anneal", "--max-latent-steps", "4", "--c-thought", "2"], {"num_thoughts": 4}),
    (["anneal", "--p-until", "1"], {}),
    (["codi"], {"trained_for": "latent", "num_thoughts": 6, "p": 0.0, "learned_k": False, "bridge": "mlp"}),
    (["codi", "--num-thoughts", "3", "--rank", "2", "--lr", "1e-2", "--group-by-length"], {"num_thoughts": 3}),
    (["codi", "--num-thoughts", "2", *THOUGHTS], {"num_thoughts": 2}),
    (["grpo", *GROUPS], {"trained_for": "latent", "num_thoughts": 2, "p": 0.25}),
    (["grpo", "--rank", "2", *GROUPS], {"trained_for": "latent", "num_thoughts": 2, "p": 0.25}),
    (["grpo", "--mode", "words", "--format", "tags", "--system", "Think.", *GROUPS],
     {"trained_for": "words", "words_format": "tags", "system": "Think."}),
    (["grpo", "--mode", "none", *GROUPS], {"trained_for": "none"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A latent model with a p of its own, which ends texts and suppresses tokens as others do."""
    folder = tmp_path_factory.mktemp("base")
    save_tiny(folder, latent=LatentConfig(num_thoughts=2, p=0.25), **SIZES)
    config = json.loads((folder / "generation_config.json").read_text())
    config |= {"eos_token_id": [1, 5], "suppress_tokens": [6]}
    (folder / "generation_config.json").write_text(json.dumps(config))
    return str(folder)


def stage_of(latent):
    """The stage in which a model like this was trained last."""
    if own_mode(latent) == "words":
        return Stage()
    if latent.learned_k:
        return Stage(latent_steps=ALL_STEPS)
    steps = latent.num_thoughts // latent.c_thought
    return Stage(latent_steps=ALL_STEPS, max_thought_steps=steps, pad_thoughts=True)


@torch.no_grad()
def behaviour(model, tokenizer):
    """The loss on some examples, and the answers to them."""
    model, latent = model.eval(), model.config.latent
    frame, mode = Frame(tokenizer, latent), own_mode(latent)
    encoded = encode_examples(frame, CHAINS)
    batch = pad_rows([build_row(item, stage_of(latent), frame, random.Random(0)) for item in encoded], frame.pad_id)
    answers = answer_batch(model, frame, [example.question for example in CHAINS], mode, latent.num_thoughts,
                           max_new_tokens=4).answers  # fmt: skip
    return float(latent_loss(model, batch, 0.0).answer), answers


@pytest.mark.parametrize(("command", "saved"), RUNS, ids=[" ".join(command) for command, _ in RUNS])
def test_a_model_that_is_read_again_is_the_one_that_was_trained(command, saved, base, tmp_path, monkeypatch, capsys):
    kept = []
    for module in (train, grpo):
        save = module.save_stage
        monkeypatch.setattr(
            module, "save_stage",
            lambda run, origin, tokenizer, result, _save=save: (
                kept.append((result.model.config.latent, *behaviour(result.model, tokenizer))),
                _save(run, origin, tokenizer, result),
            )[1],
        )  # fmt: skip
    settings = ["--data", "chains:length=2", "--limit", "12", "--batch-size", "8", "--log-every", "1"]
    settings += ["--steps", "4" if "--epochs-per-stage" in command else "8"]
    assert main(["train", *command[:1], "--model", base, *settings, *command[1:], "--out", str(tmp_path / "run")]) == 0
    model, tokenizer = load_model(str(tmp_path / "run"))
    latent, (trained, loss, answers) = model.config.latent, kept[0]
    assert latent == trained
    assert {name: getattr(latent, name) for name in saved} == saved
    again = behaviour(model, tokenizer)
    assert again[0] == pytest.approx(loss, abs=1e-6)
    assert again[1] == answers
    last = [entry for entry in read_metrics(tmp_path / "run" / "metrics.jsonl") if "p" in entry][-1:]
    for entry in last:
        assert latent.p == pytest.approx(entry["p"], abs=1e-6)
        assert latent.num_thoughts == entry["K"]
    ends = model.generation_config
    assert {1, 5} <= set(ends.eos_token_id)
    assert {6, latent.thought_id} <= set(ends.suppress_tokens)


def test_what_did_not_end_as_planned_is_said(base, tmp_path, capsys):
    common = ["--model", base, "--data", "chains:length=3", "--limit", "8", "--steps", "4"]
    held = ["train", "anneal", *common, "--p-shape", "gated", "--gate-loss", "0", "--out", str(tmp_path / "held")]
    assert main(held) == 0
    said = "p ended at 0.9, not at 0: the loss held it. The model is saved with this p."
    assert json.loads((tmp_path / "held" / "run.json").read_text())["notes"] == [said]
    assert said in capsys.readouterr().out
    assert main(["train", "coconut", *common, "--max-latent-stage", "2", "--out", str(tmp_path / "rest")]) == 0
    (note,) = json.loads((tmp_path / "rest" / "run.json").read_text())["notes"]
    assert note.startswith("The last stage thinks 2 steps and writes the rest, of up to 3")
    assert "K is not learnt" in note
    plain = ["train", "coconut", *common, "--max-latent-stage", "3", "--out", str(tmp_path / "plain")]
    assert main(plain) == 0
    assert json.loads((tmp_path / "plain" / "run.json").read_text())["notes"] == []


@pytest.mark.parametrize("rows", [3, 4, 9, 10, 17])
@pytest.mark.parametrize(("batch", "accumulate"), [(8, 1), (4, 2), (3, 3), (16, 1)])
def test_stages_take_whole_passes_over_the_data(rows, batch, accumulate, base, tmp_path):
    options = ["--data", "chains:length=2", "--limit", str(rows), "--batch-size", str(batch), "--log-every", "1"]
    stages = ["--epochs-per-stage", "2", "--max-latent-stage", "3", "--accumulate", str(accumulate)]
    command = ["train", "coconut", "--model", base, *options, *stages, "--out", str(tmp_path / "run")]
    assert main(command) == 0
    logged = [entry["stage"] for entry in read_metrics(tmp_path / "run" / "metrics.jsonl") if "stage" in entry]
    steps = -(-rows // (batch * accumulate))
    assert logged == [stage for stage in (1, 2, 3) for _ in range(2 * steps)]


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "model.embed_tokens"])
@pytest.mark.parametrize("recipe", [["sft"], ["grpo", *GROUPS]], ids=lambda recipe: recipe[0])
def test_an_adapter_of_the_tied_head_is_refused(recipe, target, base, tmp_path, capsys):
    options = ["--data", "chains:length=2", "--limit", "8", "--steps", "1", "--rank", "2", *recipe[1:]]
    command = ["train", recipe[0], "--model", base, *options, "--targets", "q_proj", target, "--out"]
    assert main([*command, str(tmp_path / "run")]) == 2
    assert f"--targets {target}: this model's head is its embedding" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_a_head_of_its_own_is_merged(tmp_path):
    tied = build_tiny(latent=LatentConfig(), **SIZES)
    tied.config.tie_word_embeddings = False
    model = type(tied)(tied.config)
    model.model.calibrate()
    model.save_pretrained(tmp_path / "base")
    build_tokenizer().save_pretrained(tmp_path / "base")
    options = ["--data", "chains:length=2", "--limit", "8", "--steps", "3", "--rank", "2", "--targets", "lm_head"]
    command = ["train", "sft", "--model", str(tmp_path / "base"), *options, "--lr", "1e-2", "--out"]
    assert main([*command, str(tmp_path / "run")]) == 0
    before, after = (load_file(tmp_path / place / "model.safetensors") for place in ("base", "run/model"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"lm_head.weight"}


@pytest.mark.parametrize("length", [["--steps", "2"], ["--epochs", "2"]])
def test_grpo_needs_as_many_questions_as_a_batch_has_groups(length, base, tmp_path, capsys):
    few = ["--data", "chains:length=2", "--limit", "3", "--batch-size", "16", "--num-generations", "4"]
    command = ["train", "grpo", "--model", base, *few, *length, "--max-new-tokens", "3", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "3 questions are fewer than the 4 groups of a batch" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    command[command.index("--limit") + 1] = "4"
    assert main(command) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 2
