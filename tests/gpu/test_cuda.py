"""On a GPU everything gives what it gives on a CPU, and every verb goes through; skipped where there is none."""

import copy
import json

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from latent_gemma.cli import main
from latent_gemma.fast.compiled import Recorded
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.decode import decode
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, pad_left
from latent_gemma.training.losses import latent_loss
from tests.conftest import FAMILIES, RECURRENCES, every_family

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = "cuda"
QUESTIONS = ["1+2=", "what is 31 + 4?", "7", "12-9="]
DATA = ["--data", "chains:length=1..3", "--limit", "64"]
TINY = "hidden_size=32,num_layers=2,num_heads=2,intermediate_size=64"


@pytest.fixture
def batch(prompts):
    ids = prompts(batch=4, thoughts=5, answer=3)
    ids[0, :4] = 0
    ids[1, 7] = 30
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - 3, ids, -100)
    return {
        "input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels,
        "anchors": torch.full_like(ids, -100), "halts": torch.full_like(ids, -100),
    }  # fmt: skip


def gradients(model, batch, steps):
    model.zero_grad()
    with model.thinking(steps=steps):
        loss = latent_loss(model, batch, 0.0).total
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("latent", [{}, {"adapter": "lora", "p": 0.4}, {"bridge": "mlp"}], ids=str)
@pytest.mark.parametrize("fast", [False, True])
def test_losses_and_gradients_are_those_of_a_cpu(make_model, batch, family, recurrence, latent, fast):
    here = make_model(family, recurrence=recurrence, **latent).train()
    there = copy.deepcopy(here).to(DEVICE)
    expected = gradients(here, batch, None)
    moved = {name: part.to(DEVICE) for name, part in batch.items()}
    found = gradients(there, moved, FastSteps(there, packed=False) if fast else None)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].cpu(), value.cpu(), rtol=1e-3, atol=1e-4), name


@every_family
@pytest.mark.parametrize("window", [6, 4096])
@pytest.mark.parametrize(
    ("mode", "thoughts", "latent"),
    [("words", 0, {}), ("latent", 4, {"p": 0.5}), ("latent", 4, {"adapter": "lora"}), ("latent", 3, {"bridge": "mlp"})],
)
def test_recorded_steps_answer_as_the_others_do(make_model, tokenizer, family, window, mode, thoughts, latent):
    model = make_model(family, sliding_window=window, **latent)
    frame = Frame(tokenizer, model.config.latent)
    ids, mask = pad_left([frame.prompt(question, mode, thoughts) for question in QUESTIONS], frame.pad_id)

    def answers(device, steps):
        cold = torch.zeros(len(ids), device=device)
        with model.thinking(steps=steps):
            found = decode(model, ids.to(device), mask.to(device), cold, (77,), 12)
        return found.tokens, found.logprobs.cpu()

    on_cpu = answers("cpu", None)
    model.to(DEVICE)
    fixed = FastSteps(model)
    for steps in (None, fixed, fixed):
        tokens, logprobs = answers(DEVICE, steps)
        assert tokens == on_cpu[0]
        assert torch.allclose(logprobs, on_cpu[1], atol=1e-3)
    assert isinstance(fixed._compiled._run, Recorded)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert len(answers(DEVICE, FastSteps(model))[0]) == len(QUESTIONS)


def test_without_thoughts_it_is_the_stock_class_bit_for_bit():
    config = Gemma2Config(
        vocab_size=300, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, attn_implementation="eager",
    )  # fmt: skip
    base = Gemma2ForCausalLM(config).to(DEVICE).to(torch.bfloat16)
    ours = LatentReasoningGemmaForCausalLM.from_base(base, LatentConfig())
    ids = torch.randint(12, 300, (3, 40), device=DEVICE)
    assert torch.equal(ours(ids).logits, base(ids).logits)
    bridged = LatentReasoningGemmaForCausalLM.from_base(base, LatentConfig(bridge="linear", adapter="lora"))
    ids[:, 20:24] = torch.tensor([7, 8, 8, 9])
    assert bridged(ids).logits.isfinite().all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_study_goes_through(tmp_path, precision):
    """Every method is trained, measured with its controls, and used after that."""
    out = tmp_path / "study"
    assert main([
        "study", "--model", "tiny", "--tiny", TINY, *DATA, "--items", "8", "--max-new-tokens", "4",
        "--step-separator", "", "--batch-size", "8", "--steps", "6", "--text-steps", "4", "--precision", precision,
        "--methods", "none,words,coconut,coconut-mixed,anneal,pause,internalize,codi,parallel,soft", "--out", str(out),
        "--controls", "full",
    ]) == 0  # fmt: skip
    labels = {row["label"] for row in json.loads((out / "report.json").read_text())["rows"]}
    assert len(labels) == 10
    anneal = str(out / "seed-0" / "annealed")
    asked = [*DATA, "--limit", "8", "--max-new-tokens", "4"]
    assert main(["eval", anneal, *asked, "--k", "auto,2", "--compile", "--out", str(tmp_path / "eval")]) == 0
    assert main(["vote", anneal, "1+2=", "--compile"]) == 0
    assert main(["ask", anneal, "1+2=", "--json"]) == 0


def test_words_and_grpo_go_through(tmp_path):
    sft, grpo = str(tmp_path / "sft"), str(tmp_path / "grpo")
    short = ["--batch-size", "8", "--steps", "3", "--log-every", "1"]
    lora = ["--rank", "4"]
    assert main(["train", "sft", "--model", "tiny", "--format", "tags", *DATA, *short, "--out", sft]) == 0
    assert main([
        "train", "grpo", "--model", sft, *DATA, "--num-generations", "4", *short, *lora, "--max-new-tokens", "8",
        "--out", grpo,
    ]) == 0  # fmt: skip


def test_a_stopped_run_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run = ["train", "coconut", "--model", "tiny", *DATA, "--batch-size", "8", "--steps", "8", "--log-every", "1"]
    assert main([*run, "--out", str(whole)]) == 0
    assert main([*run, "--save-every", "4", "--max-hours", "0.000001", "--out", str(cut)]) != 2
    assert main([*run, "--save-every", "4", "--out", str(cut), "--resume", "auto"]) == 0

    def losses(folder):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return {row["step"]: row["loss"] for row in rows if "loss" in row}

    assert losses(cut) == pytest.approx(losses(whole), rel=1e-3)
