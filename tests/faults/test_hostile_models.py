"""Damaged and hostile model directories: one clear line, or the right result; prompts that do not fit as well."""

import json
import shutil

import pytest
import torch

from latent_gemma.cli import main
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.model import LatentConfig
from latent_gemma.model.config import LatentGemma2Config
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("sound") / "model", latent=LatentConfig(num_thoughts=1), **SIZES)


def changed(folder, name, **fields):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def latent(**fields):
    return lambda folder: changed(
        folder, "config.json", latent=json.loads((folder / "config.json").read_text())["latent"] | fields
    )


def config(**fields):
    return lambda folder: changed(folder, "config.json", **fields)


def file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


DAMAGES = {
    "config empty": file("config.json", b""),
    "config list": file("config.json", b"[]"),
    "config deep": file("config.json", b'{"a":' * 100_000),
    "config bad UTF-8": file("config.json", b"\xff{}"),
    "config BOM": file("config.json", b"\xef\xbb\xbf{}"),
    "size NaN": config(hidden_size=float("nan")),
    "size text": config(hidden_size="32"),
    "other size": config(hidden_size=64),
    "other vocabulary": config(vocab_size=100),
    "vocabulary below the markers": config(vocab_size=8),
    "no heads": config(num_attention_heads=0),
    "negative heads": config(num_attention_heads=-1),
    "no positions": config(max_position_embeddings=0),
    "type a number": config(model_type=3),
    "latent a list": config(latent=[]),
    "latent a number": config(latent=3),
    "latent unknown": latent(evil=1),
    "latent K text": latent(num_thoughts="3"),
    "latent marker text": latent(bot_id="7"),
    "latent marker true": latent(bot_id=True),
    "latent marker negative": latent(thought_id=-8),
    "latent system null": latent(system=None),
    "latent steps fraction": latent(backprop_steps=1.5),
    "latent scale NaN": latent(embed_rms=float("nan")),
    "latent scale huge": latent(embed_rms=1e308),
    "latent alpha text": latent(thought_alpha="x"),
    "weights empty": file("model.safetensors", b""),
    "weights header": file("model.safetensors", b"\xff" * 100),
    "weights pickle": file("model.safetensors", b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."),
    "tokenizer empty": file("tokenizer.json", b""),
    "tokenizer other": file("tokenizer.json", b'{"a": 1}'),
    "tokenizer config list": file("tokenizer_config.json", b"[]"),
    "generation config list": file("generation_config.json", b"[1]"),
    "template reaches out": file("chat_template.jinja", b"{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    "template broken": file("chat_template.jinja", b"{% for %}"),
    "template endless": file("chat_template.jinja", b"{% for i in range(9999999999) %}{% endfor %}"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_gets_one_line(damage, sound, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    damage(folder)
    assert main(["ask", str(folder), "1+1=", "--max-new-tokens", "2"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("latent-gemma: ")]
    assert len(said) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        [1],
        "x",
        3,
        True,
        [{}],
        {"p": "0.5"},
        {"p": 2},
        {"lora_rank": 0},
        {"thought_rank": 0},
        {"recurrence": ["append"]},
        {"bridge": None},
    ],
)
def test_a_latent_configuration_of_wrong_types_is_refused(value):
    with pytest.raises(ConfigError):
        LatentConfig.from_value(value)


@pytest.mark.parametrize("size", [-1, 0, 7, 8, 9])
def test_a_vocabulary_smaller_than_the_markers_is_refused(size):
    with pytest.raises(ConfigError, match="outside a vocabulary"):
        LatentGemma2Config(vocab_size=size)


@pytest.mark.parametrize("options", [[], ["--thoughts"], ["--paths", "2"], ["--mode", "words"]])
def test_a_question_longer_than_the_model_gets_one_line(sound, options, capsys):
    assert main(["ask", str(sound), "1" * 3000, *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "tokens, and the model takes 2048" in said


def test_a_megabyte_of_question_is_refused_in_training(tokenizer):
    from latent_gemma.data.example import Example
    from latent_gemma.model.prompt import Frame
    from latent_gemma.training.batches import encode_examples

    with pytest.raises(DataError, match="example 1 has 1000006 tokens"):
        encode_examples(Frame(tokenizer, LatentConfig()), [Example("1" * 1_000_000, (), "1")], 2048)


def test_an_answer_may_fill_what_is_left_of_the_model_and_no_more(sound, make_model, tokenizer):
    from latent_gemma.evaluation.answering import answer_batch
    from latent_gemma.model.prompt import Frame

    model = make_model()
    model.config.max_position_embeddings = 20
    with torch.no_grad():
        batch = answer_batch(model, Frame(tokenizer, model.config.latent), ["1" * 10], "latent", 3)
        assert batch.answers[0].tokens <= 20 - 17
        assert len(model.generate_answer(tokenizer=tokenizer, question="1" * 10, k=2, num_thoughts=3)) <= 20
