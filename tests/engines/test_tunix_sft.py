"""A text stage trained in Tunix is the one trained in torch, and goes on where it was stopped."""

import itertools
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from latent_gemma.cli import main
from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.errors import ConfigError, RunError
from latent_gemma.training.checkpoints import find_damage, last_checkpoint
from latent_gemma.training.curriculum import AnnealCurriculum, WrittenCurriculum
from latent_gemma.training.fit import fit as fit_with_torch
from latent_gemma.training.run_log import read_metrics
from latent_gemma.training.settings import LoraSettings, TrainSettings

from .conftest import needs_tunix, stops_in_time_and_goes_on

pytestmark = needs_tunix
#: 22 examples in steps of 2 x 4: the third step of every pass is not full.
CHAINS = list(itertools.islice(chain_examples(ChainConfig(2), "train", 0), 22))
SETTINGS = TrainSettings(steps=7, batch_size=4, accumulate=2, lr=3e-3, log_every=1)
#: With keys and values the two engines' adapters part: Tunix' share a factor.
LORA = LoraSettings(rank=4, alpha=8, targets=("q_proj", "o_proj", "gate_proj", "down_proj"))


def losses(result):
    return [entry["loss"] for entry in result.metrics if "loss" in entry]


def values(result):
    return {name: value.clone() for name, value in result.model.state_dict().items()}


@pytest.fixture
def start(make_model, tokenizer):
    """What every fit begins with; rows are longer than the window."""

    def begin(seed=0):
        model = make_model(sliding_window=16, num_thoughts=0, words_format="tags", seed=seed)
        return model, tokenizer, CHAINS, WrittenCurriculum()

    return begin


@pytest.mark.parametrize(("lora", "grouped"), [(None, True), (LORA, False)], ids=["all weights, grouped", "adapter"])
def test_it_trains_as_torch_does_and_resumes_bit_for_bit(tunix_sft, start, stop_after, tmp_path, lora, grouped):
    settings = replace(SETTINGS, group_by_length=grouped)
    for name in ("torch", "whole", "cut"):
        (tmp_path / name).mkdir()
    expected = fit_with_torch(*start(), settings, tmp_path / "torch", "t", lora=lora)
    whole = tunix_sft.fit(*start(), settings, tmp_path / "whole", "t", lora=lora)
    assert (whole.finished, whole.steps) == (True, 7)
    assert losses(whole) == pytest.approx(losses(expected), abs=1e-5)
    theirs, ours = ([entry for entry in run.metrics if "loss" in entry] for run in (expected, whole))
    assert [entry.keys() for entry in ours] == [entry.keys() for entry in theirs]
    for name in ("grad_norm", "learning_rate", "epoch", "tokens"):
        assert [entry[name] for entry in ours] == pytest.approx([entry[name] for entry in theirs], rel=1e-4), name
    assert whole.model.config.latent == expected.model.config.latent
    for (name, value), (_, other) in zip(values(whole).items(), values(expected).items(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=0, msg=name)

    step = int(np.random.default_rng().integers(1, 7))
    stop_after(step)
    before = signal.getsignal(signal.SIGTERM)
    part = tunix_sft.fit(*start(), settings, tmp_path / "cut", "t", lora=lora)
    assert (part.finished, part.asked, part.steps) == (False, True, step)
    assert signal.getsignal(signal.SIGTERM) is before
    checkpoint, refused = last_checkpoint(tmp_path / "cut")
    assert (checkpoint.name, refused) == (f"checkpoint-{step}", [])
    rest = tunix_sft.fit(*start(), settings, tmp_path / "cut", "t", lora=lora, resume=True)
    assert losses(rest) == losses(whole), f"stopped at {step}"
    assert all(torch.equal(value, values(rest)[name]) for name, value in values(whole).items()), f"stopped at {step}"


def test_a_damaged_checkpoint_is_seen_and_the_one_before_goes_on(tunix_sft, start, tmp_path):
    settings = replace(SETTINGS, save_every=3)
    whole = tunix_sft.fit(*start(), settings, tmp_path, "t")
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["checkpoint-6", "checkpoint-7"]
    assert [find_damage(path) for path in kept] == [None, None]
    file = max((path for path in kept[1].rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    file.write_bytes(b"\0" + file.read_bytes()[1:])
    assert "has changed" in find_damage(kept[1])
    assert last_checkpoint(tmp_path)[0] == kept[0]
    rest = tunix_sft.fit(*start(), settings, tmp_path, "t", resume=True)
    assert losses(rest) == losses(whole)
    assert all(torch.equal(value, values(rest)[name]) for name, value in values(whole).items())


def test_the_command_stops_in_time_goes_on_and_ends_in_a_model(tunix_sft, start, tmp_path, capsys, monkeypatch):
    model, tokenizer, *_ = start()
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    options = "--data chains:length=2 --limit 22 --steps 7 --batch-size 4 --accumulate 2 --lr 3e-3 --log-every 1"
    options += f" --format tags --rank 4 --alpha 8 --targets {' '.join(LORA.targets)} --engine tunix --mesh 1,1"
    command = ["train", "sft", "--model", str(tmp_path / "base"), *options.split()]
    command += ["--out", str(tmp_path / "run")]
    stops_in_time_and_goes_on(command, tmp_path / "run", capsys, monkeypatch)
    entries = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [entry["step"] for entry in entries if "loss" in entry] == [*range(1, 8)]
    assert (tmp_path / "run" / "training.png").is_file()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert main(["ask", str(tmp_path / "run"), "1+1=", "--max-new-tokens", "4"]) == 0
    assert main([*command, "--resume", "auto"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_checkpointing_changes_no_loss_and_bfloat16_little(tunix_sft, start, tmp_path):
    runs = {"plain": {}, "checkpointing": {"checkpointing": True}, "bfloat16": {"precision": "bfloat16"}}
    found = {}
    for name, changes in runs.items():
        (tmp_path / name).mkdir()
        result = tunix_sft.fit(*start(), replace(SETTINGS, **changes), tmp_path / name, "t", lora=LORA)
        assert all(value.dtype == torch.float32 for value in values(result).values())
        found[name] = losses(result)
    assert found["checkpointing"] == pytest.approx(found["plain"], abs=1e-5)
    assert found["bfloat16"] == pytest.approx(found["plain"], abs=0.02)
    assert found["bfloat16"] != found["plain"]


def test_steps_that_are_never_finite_end_the_run(tunix_sft, start, tmp_path, capsys):
    model, *rest = start()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(RunError, match=r"5 steps in a row.*lower --lr"):
        tunix_sft.fit(model, *rest, SETTINGS, tmp_path, "t")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mesh": "2,4"}, "needs more devices"),
        ({"mesh": "1"}, "give two"),
        ({"mesh": "a,1"}, "no number"),
        ({"precision": "bfloat16"}, "--rank 16"),
    ],
)
def test_settings_it_cannot_use_are_refused(tunix_sft, start, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        tunix_sft.fit(*start(), replace(SETTINGS, **changes), tmp_path, "t")


def test_several_processes_are_refused(tunix_sft, start, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes"):
        tunix_sft.fit(*start(), SETTINGS, tmp_path, "t")


def test_a_latent_stage_is_refused(tunix_sft, start, tmp_path):
    model, tokenizer, examples, _ = start()
    with pytest.raises(ConfigError, match="--engine torch"):
        tunix_sft.fit(model, tokenizer, examples, AnnealCurriculum(), SETTINGS, tmp_path, "t")
