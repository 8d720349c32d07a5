"""No pickle is read and no code that comes with a model is run, whatever a folder holds."""

import json
import os
import pickle
import shutil

import pytest
import torch

from latent_gemma.cli import main
from latent_gemma.errors import ModelError
from latent_gemma.model import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import load_model, resolve_model, split_revision
from latent_gemma.recipes.stage import Parent, model_hash
from latent_gemma.training.checkpoints import find_damage, last_checkpoint, write_manifest
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model", latent=LatentConfig(num_thoughts=1), **SIZES)


@pytest.fixture
def bomb(tmp_path):
    """A pickle that makes a folder when it is read, and a check that it was not."""
    mark = tmp_path / "it ran"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    content = pickle.dumps(Bomb())
    pickle.loads(content)
    assert mark.exists(), "it works where pickles are read"
    mark.rmdir()
    yield content
    assert not mark.exists()


def test_weights_in_a_pickle_are_refused(folder, bomb):
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin"):
        (whole / name).write_bytes(bomb)
        (folder / name).write_bytes(bomb)
    load_model(str(whole))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no weights that can be read"):
        load_model(str(folder))
    with pytest.raises(OSError, match="safetensors"):
        LatentReasoningGemmaForCausalLM.from_pretrained(folder)


PLANTED = ("pytorch_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "scaler.pt")


def test_a_pickle_planted_in_a_checkpoint_is_refused(train, tmp_path, bomb):
    run = tmp_path / "run"
    train(run, steps=4)
    newest = run / "checkpoints" / "checkpoint-4"
    for name in PLANTED:
        (newest / name).write_bytes(bomb)
        assert find_damage(newest) == f"{name} is none of its files"
        (newest / name).unlink()
    # and is not read where a manifest vouches for it
    for name in PLANTED[:-1]:
        (newest / name).write_bytes(bomb)
    (newest / "manifest.json").unlink()
    write_manifest(newest)
    assert last_checkpoint(run)[0] == newest
    assert train(run, resume=True).steps == 6


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    mark = tmp_path / "it ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((folder / "config.json").read_text())
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer"), "own.Own")
    switched = {"auto_map": auto, "trust_remote_code": True}
    (folder / "config.json").write_text(json.dumps(config | switched))
    load_model(str(folder))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    switched["auto_map"] = {"AutoTokenizer": ["own.Own", "own.Own"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | switched))
    load_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text(json.dumps(config | switched | {"auto_map": auto, "model_type": "own"}))
    with pytest.raises(ModelError, match="never run"):
        load_model(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize("option", ["--trust-remote-code", "--trust_remote_code"])
def test_no_option_switches_it_on(option, capsys):
    assert main(["train", "sft", "--model", "tiny", "--data", "chains", "--out", "x", option]) == 2
    assert "unknown option" in capsys.readouterr().err


def test_a_hub_name_is_pinned_and_what_was_loaded_is_hashed(folder, tmp_path, monkeypatch):
    assert split_revision("owner/name@v1") == ("owner/name", "v1")
    assert split_revision("owner/name") == ("owner/name", "main")
    assert resolve_model("owner/name@v1") == ("owner/name", None)
    assert split_revision(str(folder)) == (str(folder), "main")
    (tmp_path / "a@b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert split_revision("a@b") == ("a@b", "main"), "a folder that is there"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--owner--name"
    commits = {"main": "1" * 40, "v1": "2" * 40}
    for seed, (ref, commit) in enumerate(commits.items()):
        save_tiny(home / "snapshots" / commit, latent=LatentConfig(num_thoughts=1), seed=seed, **SIZES)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / ref).write_text(commit)
    for name, commit in (("owner/name", "1" * 40), ("owner/name@v1", "2" * 40), ("owner/name@" + "2" * 40, "2" * 40)):
        parent = Parent.of(name)
        assert (parent.commit, parent.sha256) == (commit, model_hash(str(home / "snapshots" / commit)))
        loaded, _ = load_model(name)
        expected, _ = load_model(str(home / "snapshots" / commit))
        assert torch.equal(loaded.model.embed_tokens.weight, expected.model.embed_tokens.weight)
    assert model_hash("owner/name") != model_hash("owner/name@v1")
    assert Parent.of("owner/other").sha256 == ""
