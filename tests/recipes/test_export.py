"""Models of words are plain Gemma: what a stage saves, exports and uploads loads without this package."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM

from latent_gemma.cli import main
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.model import LatentConfig, LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import latent_of, load_model, read_config
from latent_gemma.model.prompt import Frame, own_mode
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.recipes import export
from latent_gemma.recipes.card import HERE
from tests.conftest import every_family, weighted
from tests.saving import save_tiny

SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
TRAIN = ["--data", "rows.jsonl", "--batch-size", "4"]
GROUPS = ["--num-generations", "4", "--max-new-tokens", "4", "--sample-every", "0"]
RUNS = {
    "tags": ["sft", "--model", "chat", *TRAIN, "--format", "tags", "--system", "", "--steps", "60", "--lr", "1e-2"],
    "words": ["sft", "--model", "base", *TRAIN, "--steps", "2"],
    # a Gemma 1 with an adapter that is merged, and a Gemma 3 that GRPO goes on with
    "merged": ["sft", "--model", "first", *TRAIN, "--format", "tags", "--steps", "2", "--rank", "2"],
    "third-words": ["sft", "--model", "third", *TRAIN, "--format", "tags", "--steps", "2"],
    "grpo": ["grpo", "--model", "third-words", *TRAIN, "--steps", "1", "--rank", "2", *GROUPS],
    "none": ["sft", "--model", "base", *TRAIN, "--steps", "2", "--reasoning", "none"],
    "latent": ["anneal", "--model", "words", *TRAIN, "--steps", "2", "--adapter", "lora", "--bridge", "mlp"],
}
CLASSES = {"merged": "GemmaForCausalLM", "third-words": "Gemma3ForCausalLM", "grpo": "Gemma3ForCausalLM"}
CLASSES |= dict.fromkeys(("tags", "words", "none"), "Gemma2ForCausalLM")
QUESTION = "1+1="
#: What a process without this package finds in a directory.
STOCK = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
found = {}
for folder, (prompt, most) in json.loads(sys.argv[1]).items():
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": most, "do_sample": False}
    written = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :]
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = tokenizer.decode(prompt)
    (said,) = pipe(text, return_full_text=False, add_special_tokens=False, **settings)
    found[folder] = {"class": type(model).__name__, "ids": written.tolist(), "said": said["generated_text"],
                     "decoded": tokenizer.decode(written, skip_special_tokens=True), "text": text,
                     "eos": model.generation_config.eos_token_id}
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]
        found[folder]["turns"] = tokenizer.apply_chat_template(turns, tokenize=False)
        (said,) = pipe([turns[:1]], **settings)
        found[folder]["chat"] = said[0]["generated_text"][-1]["content"]
    code = open(folder + "/README.md").read().split("```python")[1].split("```")[0]
    exec(code.replace("path/to/this/folder", folder).replace("QUESTION", "1+1=").replace("=256", "=8"))
try:
    AutoModelForCausalLM.from_pretrained("latent/model")
except ValueError as error:
    found["latent"] = str(error)
assert not any(name.startswith("latent_gemma") for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    rows = [{"question": f"{i}+{i}=", "steps": [f"{i} and {i}"], "answer": str(2 * i)} for i in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, family in {"base": "gemma2", "chat": "gemma2", "first": "gemma", "third": "gemma3"}.items():
        save_tiny(folder / name, family, LatentConfig(num_thoughts=2), **SIZES)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    for name in ("chat", "first", "third"):
        tokenizer.save_pretrained(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, command in RUNS.items():
            assert main(["train", *command, "--out", name]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)


def stock(prompts):
    """What a process finds that never imports this package."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STOCK, json.dumps(prompts)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_process_without_this_package_gets_the_same_answers(trained):
    prompts, answers = {}, {}
    for name in CLASSES:
        model, tokenizer = load_model(name)
        frame, mode = Frame(tokenizer, model.config.latent), own_mode(model.config.latent)
        most = 80 if name == "tags" else 12  # only "tags" has learnt to come to an end
        prompts[f"{name}/model"] = frame.prompt(QUESTION, mode), most
        answers[name] = frame, mode, answer_batch(model, frame, [QUESTION], mode, 0, max_new_tokens=most).answers[0]
    found = stock(prompts)
    for name, (frame, mode, answer) in answers.items():
        got = found[f"{name}/model"]
        assert got["class"] == CLASSES[name]
        assert got["eos"] == ([1] if name in ("words", "none") else [1, 11])  # base has no chat template
        assert frame.read(got["ids"], mode) == answer
        assert got["said"].strip() == got["decoded"].strip()
    chat = found["tags/model"]
    assert chat["ids"][-1] == 11, "the end of the turn ends the answer"
    assert (
        chat["turns"]
        == f"<bos><start_of_turn>user\n{QUESTION}<end_of_turn>\n<start_of_turn>assistant\n2<end_of_turn>\n"
    )
    assert chat["chat"].strip() == chat["said"].strip() == answers["tags"][2].graded
    assert "does not recognize" in found["latent"]
    assert "latent_gemma2" in found["latent"]


def test_what_this_package_knows_of_a_plain_model_survives():
    for name in ("tags", "words", "none"):
        config = json.loads(Path(name, "model", "config.json").read_text())
        assert (config["model_type"], config["architectures"]) == ("gemma2", ["Gemma2ForCausalLM"])
        latent = LatentReasoningGemmaForCausalLM.from_pretrained(f"{name}/model").config.latent
        assert latent == latent_of(name) == read_config(name).latent == load_model(name)[0].config.latent
        assert own_mode(latent) == json.loads(Path(name, "run.json").read_text())["mode"]
        assert latent.embed_rms > 0
    assert latent_of("tags").words_format == "tags"
    assert json.loads(Path("latent", "model", "config.json").read_text())["model_type"] == "latent_gemma2"


@every_family
def test_the_weights_are_the_same_bit_for_bit(family, tmp_path):
    latent = LatentConfig(num_thoughts=0, trained_for="words")
    model = weighted(build_tiny(family, latent, **SIZES))
    assert model.is_plain
    model.save_plain(tmp_path / "plain", keeps_latent=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert type(plain) in type(model).__mro__
    assert type(plain) is not type(model)
    state = plain.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert LatentReasoningGemmaForCausalLM.from_base(plain).config.latent == model.config.latent
    build_tokenizer().save_pretrained(tmp_path / "plain")
    again, _ = load_model(str(tmp_path / "plain"))
    assert again.config.latent == model.config.latent
    model.save_pretrained(tmp_path / "older")  # as versions before saved it
    build_tokenizer().save_pretrained(tmp_path / "older")
    older, _ = load_model(str(tmp_path / "older"))
    assert older.config.latent == again.config.latent
    assert all(torch.equal(a, b) for a, b in zip(older.parameters(), again.parameters(), strict=True))


def test_a_model_that_thinks_is_no_plain_one(make_model):
    assert not make_model(num_thoughts=2, trained_for="latent").is_plain
    assert not make_model(num_thoughts=2, trained_for="words", bridge="mlp").is_plain
    assert not make_model(num_thoughts=2).is_plain


def test_a_plain_export_of_a_latent_model_says_what_is_left_out(tmp_path, capsys):
    out = tmp_path / "plain"
    assert main(["export", "latent", "--to", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"left out: thoughts \(K = auto\) and the [0-9,]+ weights that only thoughts use; .*", said[0])
    assert said[1:] == [str(out)]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert not hasattr(model.config, "latent")
    kept = load_model("latent")[0].state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert len(kept) > len(model.state_dict())
    assert latent_of(str(out)).trained_for == "unknown"
    assert main(["export", "latent", "--to", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_an_export_of_words_is_the_model(tmp_path):
    assert main(["export", "words", "--to", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == Path("words/model/model.safetensors").read_bytes()
    assert latent_of(str(tmp_path / "out")) == latent_of("words")


def test_a_card_says_how_the_model_was_made_and_its_code_runs(capsys):
    card = Path("latent/model/README.md").read_text()
    assert "base: `words` from `base`" in card
    assert "`anneal`, 2 steps, seed 0" in card
    assert "ai.google.dev/gemma/terms" in card
    code = card.split("```python")[1].split("```")[0]
    exec(code.replace(HERE, "latent/model").replace("QUESTION", QUESTION), {})


class StandIn:
    """A hub that takes everything."""

    calls: ClassVar[list] = []

    def create_repo(self, repo_id, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
        return f"https://hub/{repo_id}/commit/1"


def test_a_model_is_uploaded_with_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "HfApi", StandIn)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    report = ["eval", "words", "--data", "rows.jsonl", "--max-new-tokens", "3", "--traces", "0"]
    assert main([*report, "--controls", "none", "--out", str(tmp_path / "eval")]) == 0
    capsys.readouterr()
    assert main(["push", "words", "owner/name", "--report", str(tmp_path / "eval")]) == 0
    assert capsys.readouterr().out == "https://hub/owner/name/commit/1\n"
    (created, uploaded) = StandIn.calls
    assert created == ("create", "owner/name", True, True)
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(uploaded[2])
    card = Path("words/model/README.md").read_text()
    assert 'from_pretrained("owner/name")' in card
    assert re.search(r"\| *words *\| *words *\| *[0-9.]+ \[[0-9.]+–[0-9.]+\] *\|", card)
    assert card.index("## Figures") < card.index("| words ") < card.index("## How to load")
    assert main(["push", "words", "owner/name", "--report", str(tmp_path)]) == 2
    assert "holds no report" in capsys.readouterr().err


def test_what_cannot_be_uploaded_is_told_in_one_line(monkeypatch, capsys):
    assert main(["push", "words", "owner/name"]) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    class Closed(StandIn):
        def create_repo(self, *args, **kwargs):
            raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(export, "HfApi", Closed)
    assert main(["push", "words", "owner/name"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["push", "rows.jsonl", "owner/name"]) == 2
