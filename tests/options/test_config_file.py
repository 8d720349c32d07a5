"""Options come from a file, then from what is typed; what a run writes of itself is such a file."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from latent_gemma.cli import VERBS, config_class, main, parse
from latent_gemma.errors import ConfigError
from latent_gemma.model import LatentConfig
from latent_gemma.options.flat import told
from tests.saving import save_tiny

#: A command line of each verb: texts with signs in them, lists, switches, what may be None and is not.
TYPED = {
    "demo": "--words --items 7 --max-hours 0.5",
    "train sft": '--model m --data d.jsonl --out "o p" --rank 4 --targets q_proj v_proj --system "a \\"b\\""',
    "train coconut": "--model m --data chains --limit 9 --out o --no-reset-optimizer --backprop-steps 2 --seed 3",
    "train anneal": "--model m --data chains --limit 9 --out o --p-shape gated --thought-rank 3 --compress 1,0.5",
    "train pause": "--model m --data chains --limit 9 --out o --stage-mixing --no-learn-k --c-thought 2",
    "train internalize": "--model m --data chains --limit 9 --out o --final-stages 1 --uniform-prob 0.1",
    "train codi": "--model m --data d.jsonl --out o --num-thoughts 3 --rank 2",
    "train grpo": "--model m --data d.jsonl --out o --beta 0,0.1 --rewards a:b c:d --vllm off --temperature 1",
    "study": "--model tiny --data chains --out o --seeds 0,1 --tiny hidden_size=8 --tiny-words a --rank 2",
    "eval": "a b:words --data d.jsonl --k 0,1 --controls none --format tags --out o --metrics fuzzy",
    "compare": "a b --out o",
    "export": "run --to o --format gguf",
    "push": "run owner/name --public",
    "studio": "a b --folder o --port 7861 --no-browser",
    "vote": 'm "1 + 1 = ?" --k 3 --show-traces',
    "ask": "m 1+1= --p 0.5 --translate ja",
    "chat": "m --thoughts",
    "data preview": '--data d.jsonl --rows 2 --step-separator "\\n"',
    "data arithmetic": "--n 3 --out o.jsonl --remainder --split test",
    "data chains": "--n 3 --out o.jsonl --length 5",
    "data mine": "run --out o.jsonl --style unpaired_preference",
    "tasks": "--language ja",
    "estimate": "--model google/gemma-2-2b --price 1.5 --no-checkpointing",
}


def read(verb, *args):
    return parse(config_class(verb), [str(arg) for arg in args], verb)


def test_every_verb_is_tried():
    assert set(TYPED) == {verb for verb in VERBS if verb != "harness"}


@pytest.mark.parametrize("verb", TYPED)
def test_what_a_run_writes_is_read_back(verb, tmp_path):
    config = read(verb, *shlex.split(TYPED[verb]))
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"recipe": verb, "config": asdict(config)}, default=str))
    assert read(verb, "--config", record) == config
    assert "None" not in told(config)


TOML = """
model = "m"
out = "o"
lr = 1                     # a whole number is a number
limit = 5
max-latent-steps = 3

[data]
data = "chains:length=2"
holdout = 0

[curriculum]
p_start = 0.5

[train]
batch-size = 4
"""


def test_a_file_then_what_is_typed(tmp_path):
    (tmp_path / "run.toml").write_text(TOML)
    config = read("train anneal", "--config", tmp_path / "run.toml")
    assert (config.model, config.out, config.data.data, config.data.limit) == ("m", Path("o"), "chains:length=2", 5)
    assert (config.train.lr, config.train.batch_size, config.curriculum.p_start) == (1.0, 4, 0.5)
    assert config.curriculum.max_latent_steps == 3
    assert isinstance(config.train.lr, float)
    typed = ["--lr", "0.5", f"--config={tmp_path / 'run.toml'}", "--p-start", "0.25", "--limit", "None", "--out", "x"]
    over = read("train anneal", *typed)
    assert (over.train.lr, over.curriculum.p_start, over.data.limit, over.out) == (0.5, 0.25, None, Path("x"))
    assert replace(over, train=config.train, curriculum=config.curriculum, data=config.data, out=config.out) == config


@pytest.mark.parametrize(
    ("verb", "text", "said"),
    [
        ("train anneal", "lrr = 1", "unknown key 'lrr': did you mean lr?"),
        ("train anneal", "[train]\nbatchsize = 1", "unknown key 'batchsize': did you mean batch_size?"),
        ("train anneal", "[trian]\nlr = 1", "unknown key 'trian': did you mean train?"),
        ("train anneal", "[train]\np_start = 1", "unknown key 'p_start'"),
        ("train anneal", "nothing-like-it = 1", "'nothing-like-it': see latent-gemma train anneal --help"),
        ("train anneal", "lr = 1\n[train]\nlr = 2", "says lr twice"),
        ("train anneal", 'lr = "1"', 'lr is "1": give a number'),
        ("train anneal", "steps = 1.5", "steps is 1.5: give a whole number"),
        ("train anneal", "steps = true", "steps is true: give a whole number"),
        ("train anneal", "checkpointing = 1", "checkpointing is 1: give true or false"),
        ("train anneal", "model = 1", "model is 1: give text"),
        ("train anneal", "out = 1", "out is 1: give a path"),
        ("train anneal", "limit = [1]", "limit is [1]: give a whole number"),
        ("train anneal", "lr = {a = 1}", 'lr is {"a": 1}: give a number'),
        ("train anneal", 'p_shape = "steep"', 'p_shape is "steep": give one of linear, cosine, gated'),
        ("train anneal", "p_shape = [1]", "p_shape is [1]: give one of linear, cosine, gated"),
        ("train anneal", 'c_thought = "steps"', 'c_thought is "steps": give a whole number'),
        ("train grpo", 'rewards = "a:b"', 'rewards is "a:b": give a list'),
        ("train grpo", "rewards = [1]", "rewards is 1: give text"),
        ("train anneal", "lr = -1", "--lr -1 is out of range"),
        ("train anneal", "lr = 2024-01-01", 'lr is "2024-01-01": give a number'),
        ("train anneal", "lr =", "cannot be read"),
        ("train anneal", "lr = '\udc80'", "cannot be read"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(verb, text, said, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main([*verb.split(), "--model", "m", "--data", "d", "--out", "o", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("latent-gemma: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": 3}', "{", "[" * 100_000])
def test_what_is_no_record_of_a_run_is_told(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json (holds no configuration|cannot be read)"):
        read("demo", "--config", tmp_path / "run.json")


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\nb.toml"])
def test_a_file_that_cannot_be_read_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read("demo", "--config", name)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--batchsize 3", "unknown option --batchsize: did you mean --batch-size?"),
        ("--learning-rate 3", "unknown option --learning-rate: see latent-gemma train anneal --help"),
        ("--no-chekpointing", "unknown option --no-chekpointing: did you mean --no-checkpointing?"),
        ("--no-lr", "unknown option --no-lr"),
        ("--conifg=x", "unknown option --conifg: did you mean --config?"),
        ("--lora-rank 3", "unknown option --lora-rank"),
    ],
)
def test_an_unknown_option_comes_with_the_nearest(typed, said, capsys):
    assert main(["train", "anneal", "--model", "m", *typed.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "ask --model runs/a --question 1+1=",
            "unknown option --model: it has no name: latent-gemma ask MODEL QUESTION",
        ),
        ("ask runs/a --question=1+1=", "unknown option --question: it has no name: latent-gemma ask MODEL QUESTION"),
        ("eval --model runs/a --data chains", "unknown option --model: it has no name: latent-gemma eval MODELS"),
        ("eval --models runs/a --data chains", "unknown option --models: it has no name: latent-gemma eval MODELS"),
    ],
)
def test_what_has_no_name_is_told_where_it_goes(typed, said, capsys):
    assert main(typed.split()) == 2
    assert said in capsys.readouterr().err


def test_an_older_switch_is_still_understood():
    assert read("eval", "run", "--no-controls").controls == "none"


def test_a_run_again_from_its_own_record(tmp_path, monkeypatch, capsys):
    """train, eval and demo: what they say they do is said once, and what they write of themselves does it again."""
    monkeypatch.chdir(tmp_path)
    save_tiny("m", latent=LatentConfig(num_thoughts=2), hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    Path("run.toml").write_text(
        'model = "m"\nlimit = 8\nsteps = 3\nuniform_prob = 0.5\n[latent]\nadapter = "lora"\nthought_rank = 2\n'
        '[data]\ndata = "chains:length=2"\n[train]\nbatch_size = 4\nlr = 1e-3\n'
    )
    assert main(["train", "coconut", "--config", "run.toml", "--lr", "0.01", "--out", "one"]) == 0
    said = capsys.readouterr().out
    assert said.count("coconut: model=m ") == 1
    assert {"lr=0.01", "steps=3", "thought_rank=2", "c_thought=1"} <= {*said.split()}
    assert main(["train", "coconut", "--config", "one/run.json", "--out", "two"]) == 0
    one, two = (load_file(f"{run}/model/model.safetensors") for run in ("one", "two"))
    assert all((one[name] == two[name]).all() for name in one | two)
    assert any(name.endswith("thought_a") and 2 in one[name].shape for name in one), "an adapter of rank 2"

    asked = ["--data", "chains:length=2", "--limit", "3", "--max-new-tokens", "2", "--traces", "0", "--k", "1"]
    assert main(["eval", "one", *asked, "--out", "measured"]) == 0
    assert capsys.readouterr().out.count("eval: models=one ") == 1
    assert main(["eval", "--config", "measured/run.json", "--out", "again"]) == 0
    rows = [json.loads(Path(run, "report.json").read_text())["rows"] for run in ("measured", "again")]
    for row in (row for found in rows for row in found):
        del row["seconds_per_answer"], row["seconds_range"], row["peak_mem_gib"]
    assert rows[0] == rows[1]
    assert main(["eval", "--config", "measured/run.json"]) == 2, "its folder is there"
    assert "is not empty" in capsys.readouterr().err

    assert main(["demo", "--scale", "0.002", "--items", "2", "--out", "demo"]) == 0
    assert capsys.readouterr().out.count("demo: ") == 1
    demo = read("demo", "--config", "demo/run.json")
    assert (demo.scale, demo.items, demo.out) == (0.002, 2, Path("demo"))
