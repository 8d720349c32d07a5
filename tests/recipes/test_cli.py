"""The command line from end to end on tiny models, and one clear line for whatever cannot be done."""

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig

from latent_gemma.cli import VERBS, main
from latent_gemma.model import LatentConfig
from tests.saving import save_tiny

TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("model"), latent=LatentConfig(num_thoughts=2), **TINY))


def run(*args):
    return main([str(arg) for arg in args])


def test_train_evaluate_and_ask(model, tmp_path, capsys):
    options = ["--data", "chains:length=2", "--limit", 32, "--steps", 3, "--batch-size", 8, "--log-every", 1]
    words, coconut, anneal = tmp_path / "words", tmp_path / "coconut", tmp_path / "anneal"
    assert run("train", "sft", "--model", model, "--out", words, "--rank", 2, "--step-separator", "", *options) == 0
    assert run("train", "coconut", "--model", words, "--out", coconut, "--max-latent-stage", 2, *options) == 0
    latent = ["--bridge", "mlp", "--adapter", "lora", "--trains", "thoughts", "--recurrence", "sequence"]
    latent += ["--c-thought", 1, "--no-learn-k"]
    assert run("train", "anneal", "--model", words, "--out", anneal, *latent, *options) == 0
    for folder, recipe in ((words, "sft"), (coconut, "coconut"), (anneal, "anneal")):
        record = json.loads((folder / "run.json").read_text())
        assert record["recipe"] == recipe
        assert len(record["parent_sha256"]) == 64
        assert {"torch", "transformers"} <= record["versions"].keys()
        assert {path.name for path in folder.iterdir()} >= {"model", "run.json", "metrics.jsonl", "training.png"}
    config = json.loads((anneal / "model" / "config.json").read_text())
    assert config["latent"]["p"] == pytest.approx(0.9 * (1 - (2 / 3) / 0.7)), "of the last of three steps"
    assert config["latent"]["num_thoughts"] == 2
    assert config["latent"]["trained_for"] == "latent"
    assert config["latent"]["step_separator"] == "", "the text stage's separator is inherited"

    report = tmp_path / "report"
    grid = ["--k", "0,1,2", "--p", "0,0.5,1", "--max-new-tokens", 4, "--batch-size", 4]
    assert run("eval", coconut, "--data", "chains:length=2", "--limit", 6, *grid, "--layers", "--out", report) == 0
    data = json.loads((report / "report.json").read_text())
    assert {row["control"] for row in data["rows"]} == {"none", "zero", "noise", "swap", "permute", "pause"}
    assert data["traces"][0]["steps"][0]["layers"]
    assert {"report.html", "report.md", "accuracy_over_k.png"} <= {path.name for path in report.iterdir()}
    assert (
        run("eval", words, "--data", "chains:length=2", "--limit", 6, "--mode", "words", "--out", tmp_path / "w") == 0
    )
    capsys.readouterr()
    assert run("ask", anneal, "1+2=", "--thoughts", "--max-new-tokens", 3) == 0
    assert "entropy" in capsys.readouterr().out
    assert run("ask", anneal, "1+2=", "--paths", 3) == 0
    assert capsys.readouterr().out.count("%") == 3


def test_words_between_tags_from_sft_to_a_vote(model, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    assert run("data", "arithmetic", "--n", 40, "--digits", 1, "--out", rows) == 0
    options = ["--data", rows, "--holdout", 8, "--batch-size", 8, "--log-every", 1]
    sft = tmp_path / "sft"
    tags = ["--format", "tags", "--rank", 2, "--system", "Think first.", "--steps", 3]
    assert run("train", "sft", "--model", model, "--out", sft, *tags, *options) == 0
    latent = json.loads((sft / "model" / "config.json").read_text())["latent"]
    assert (latent["words_format"], latent["system"], latent["num_thoughts"]) == ("tags", "Think first.", 0)
    assert (sft / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((sft / "model" / "generation_config.json").read_text())["eos_token_id"] == [1]

    grpo = tmp_path / "grpo"
    groups = ["--num-generations", 4, "--max-new-tokens", 8, "--sample-every", 0]
    assert run("train", "grpo", "--model", sft, "--out", grpo, "--steps", 2, *groups, *options) == 0
    record = json.loads((grpo / "run.json").read_text())
    assert record["config"]["beta"] == "0.04"
    assert len(record["parent_sha256"]) == 64
    assert json.loads((grpo / "model" / "config.json").read_text())["latent"]["words_format"] == "tags"

    short = ["--max-new-tokens", 8]
    report = tmp_path / "votes"
    asked = ["--format", "tags", "--system", "Think first.", "--mode", "words", "--votes", 5]
    assert run("eval", grpo, model, "--data", rows, "--holdout", 8, "--out", report, *asked, *short) == 0
    data = json.loads((report / "report.json").read_text())
    assert [row["label"] for row in data["rows"]] == [
        "grpo", "grpo, vote", Path(model).name, f"{Path(model).name}, vote"
    ]  # fmt: skip
    assert data["rows"][0]["complete"] == 0
    assert {"maj_at_k.png", "pass_at_k.png", "report.html"} <= {path.name for path in report.iterdir()}
    capsys.readouterr()
    assert run("vote", grpo, "Solve 1 + 2", "--show-traces", "--traces", 3, *short) == 0
    shown = capsys.readouterr().out
    assert "log-probability" in shown
    assert "0.6" in shown
    assert run("ask", grpo, "Solve 1 + 2", *short) == 0
    assert run("eval", grpo, "--data", rows, "--holdout", 8, "--out", tmp_path / "e", *short) == 0
    assert json.loads((tmp_path / "e" / "report.json").read_text())["rows"][0]["label"] == "words"


def test_models_on_tasks_and_their_comparison(model, tmp_path, capsys):
    words = tmp_path / "words"
    tags = ["--format", "tags", "--data", "chains:length=2", "--limit", 16, "--batch-size", 8, "--steps", 2]
    assert run("train", "sft", "--model", model, "--out", words, *tags) == 0
    (tmp_path / "mgsm_ja.tsv").write_text("りんごは三つあります。\t3\nみかんは？\t4\n", encoding="utf-8")
    (tmp_path / "svamp.json").write_text(
        '[{"Body": "A.", "Question": "How many?", "Answer": 3.0, "Equation": "1 + 2"}]'
    )
    out = tmp_path / "eval"
    tasks = f"mgsm-ja={tmp_path / 'mgsm_ja.tsv'},svamp={tmp_path / 'svamp.json'},chains"
    short = ["--limit", 2, "--max-new-tokens", 4, "--metrics", "fuzzy,language"]
    assert run("eval", model, words, "--tasks", tasks, *short, "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {"mgsm-ja", "svamp", "chains", "run.json"}
    data = json.loads((out / "mgsm-ja" / "report.json").read_text())
    labels = list(dict.fromkeys(row["label"] for row in data["rows"]))
    assert labels == [Path(model).name, "words"]
    assert set(data["rows"][0]["figures"]) == {"fuzzy_0_100", "fuzzy_share", "fuzzy_threshold", "language_share"}
    items = (out / "chains" / "items.jsonl").read_text().splitlines()
    assert len(items) == 2 * len(json.loads((out / "chains" / "report.json").read_text())["rows"])

    both = tmp_path / "compare"
    assert run("compare", out / "chains", "--out", both) == 0
    report = json.loads((both / "report.json").read_text())
    assert [table["title"] for table in report["tables"]][:2] == ["Further metrics", "Paired tests"]
    assert {"accuracy_over_tokens.png", "accuracy_over_seconds.png"} <= {path.name for path in both.iterdir()}
    assert report["choice"].startswith(("Pick ", "A tie: "))
    timed = [row for row in report["rows"] if row["seconds_range"]]
    assert [row["label"] for row in timed] == list(dict.fromkeys(row["label"] for row in report["rows"]))
    assert all(0 < row["seconds_range"][0] <= row["seconds_per_answer"] for row in timed)
    capsys.readouterr()
    assert run("compare", out / "chains", out / "svamp", "--out", tmp_path / "no") == 2
    assert "were asked different questions" in capsys.readouterr().err


def test_a_comparison_reads_the_thoughts_behind_what_was_logged(tmp_path, capsys):
    words = save_tiny(tmp_path / "words", latent=LatentConfig(num_thoughts=0, words_format="tags"), **TINY)
    latent = save_tiny(tmp_path / "latent", latent=LatentConfig(num_thoughts=2), seed=1, **TINY)
    short = ["--data", "chains:length=2", "--limit", 4, "--max-new-tokens", 4]
    assert run("eval", latent, "--out", tmp_path / "a", "--k", 0, *short) == 0
    assert run("eval", words, "--out", tmp_path / "b", *short) == 0
    # what random weights answer is never right; have the log say that the latent model's second answer is
    log = tmp_path / "a" / "items.jsonl"
    items = [json.loads(line) for line in log.read_text().splitlines()]
    items[1]["correct"] = True
    log.write_text("".join(json.dumps(item) + "\n" for item in items))
    both = tmp_path / "both"
    assert run("compare", tmp_path / "a", tmp_path / "b", "--out", both) == 0
    found = json.loads((both / "report.json").read_text())["differences"]
    assert (found["count"], found["total"], len(found["items"])) == (1, 4, 1)
    (thinking, writing), question = found["items"][0], items[1]["question"]
    assert (thinking["question"], thinking["answer"]) == (question, items[1]["answer"])
    assert [len(step["tokens"]) for step in thinking["steps"]] == [3, 3]
    assert writing["steps"] == []
    assert "Where they differ" in (both / "report.html").read_text()
    save_tiny(latent, latent=LatentConfig(num_thoughts=2), seed=2, **TINY)
    capsys.readouterr()
    assert run("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "changed") == 0
    report = json.loads((tmp_path / "changed" / "report.json").read_text())
    assert report["differences"]["items"][0][0]["steps"] == []
    assert "is not the model that was evaluated" in report["context"]["latent: thoughts"]


def test_a_latent_model_is_improved_by_rewards_and_votes(model, tmp_path):
    grpo = tmp_path / "grpo"
    options = ["--data", "chains:length=2", "--limit", 16, "--steps", 2, "--batch-size", 4, "--num-generations", 4]
    assert run("train", "grpo", "--model", model, "--out", grpo, "--max-new-tokens", 3, *options) == 0
    samples = grpo / "samples.jsonl"
    assert not samples.exists() or "<reasoning>" not in samples.read_text()
    assert run("vote", grpo, "1+2+3=", "--noise", 0.5, "--max-new-tokens", 3) == 0


def test_a_beta_study_compares_runs(model, tmp_path):
    out = tmp_path / "study"
    options = ["--data", "chains:length=2", "--limit", 16, "--steps", 2, "--batch-size", 4, "--log-every", 1]
    groups = ["--num-generations", 4, "--max-new-tokens", 3, "--format", "tags", "--mode", "words", "--eval-items", 5]
    study = ["train", "grpo", "--model", model, "--out", out, "--beta", "0,0.04", "--resume", "auto"]
    assert run(*study, *options, *groups) == 0
    data = json.loads((out / "report.json").read_text())
    assert [row["label"] for row in data["rows"]] == ["before", "beta 0", "beta 0.04"]
    names = {path.name for path in out.iterdir()}
    assert {"beta-0", "beta-0.04", "accuracy_over_beta.png", "reward_over_steps.png", "kl_over_steps.png"} <= names
    (out / ".report.md.1.partial").touch()  # what a kill leaves
    assert run(*study, *options, *groups) == 0, "finished runs are not trained again"
    assert not list(out.glob(".*"))


def test_the_same_command_goes_on_until_the_run_is_finished(model, tmp_path, capsys):
    out = tmp_path / "relay"
    options = ["--data", "chains:length=2", "--limit", 32, "--steps", 3, "--batch-size", 8, "--resume", "auto"]
    command = ["train", "sft", "--model", model, "--out", out, *options]
    assert run(*command, "--max-hours", "1e-9") == 0
    assert "stopped at step 1; the same command with --resume auto goes on" in capsys.readouterr().out
    assert not (out / "model").exists()
    assert run(*command) == 0
    assert (out / "model").exists()
    assert run(*command) == 0
    assert "is finished" in capsys.readouterr().out


def test_data_preview_and_generation(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    assert run("data", "arithmetic", "--n", 20, "--ops", "add,sub,mul,div", "--digits", 2, "--out", out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 20
    assert all(row["prompt"].startswith("Solve ") and "<answer>" in row["completion"] for row in rows)
    capsys.readouterr()
    assert run("data", "preview", "--data", out, "--rows", 2, "--latent-steps", 1) == 0
    shown = capsys.readouterr().out
    assert shown.count("loss reads") == 2
    assert "<thought>" in shown
    assert run("data", "arithmetic", "--n", 5, "--out", out) == 2, "an existing file is not overwritten"


def test_estimate_prints_memory_and_devices(capsys):
    assert run("estimate", "--model", "google/gemma-2-2b-it") == 0
    shown = capsys.readouterr().out
    assert "2,635 M values" in shown, "those of an adapter of rank 16 among them"
    assert "A100 80 GB" in shown


def test_every_verb_shows_its_options(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            run(*verb.split(), "--help")
        assert stop.value.code == 0
        assert f"usage: latent-gemma {verb}" in capsys.readouterr().out
    assert run() == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in VERBS)


def test_a_group_shows_its_verbs(capsys):
    assert run("train", "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: latent-gemma train VERB")
    assert [verb for verb in VERBS if f"  {verb} " in shown] == [verb for verb in VERBS if verb.startswith("train ")]


@pytest.fixture
def bad(tmp_path):
    """Paths of things that cannot be used."""
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"question": "1", "answer": "1"}\n{"question": "2", "answer": null}\n')
    (tmp_path / "two.jsonl").write_text('{"question": "1", "answer": "1"}\n{"question": "2", "answer": "2"}\n')
    (tmp_path / "long.jsonl").write_text('{"question": "' + "1" * 3000 + '", "answer": "1"}')
    (tmp_path / "nomodel").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    LlamaConfig().save_pretrained(tmp_path / "llama")
    return tmp_path


CHAINS = ["--data", "chains", "--limit", "4"]
TRAIN = ["train", "anneal", "--model", "MODEL", "--out", "TMP/out"]
GRPO = ["train", "grpo", "--model", "MODEL", "--out", "TMP/out"]
BAD_INPUT = [
    (["fly"], "unknown verb 'fly'"),
    (["train"], "train needs a second word"),
    (["train", "grow"], "train 'grow' is no verb"),
    ([*TRAIN, *CHAINS, "--colour", "red"], "unknown option --colour"),
    (["train", "sft"], "missing --model"),
    ([*TRAIN, *CHAINS, "--lr", "fast"], "--lr"),
    ([*TRAIN, *CHAINS, "--p-shape", "steep"], "--p-shape"),
    ([*TRAIN, "--data", "TMP/missing.jsonl"], "missing.jsonl"),
    ([*TRAIN, "--data", "TMP/empty.jsonl"], "empty.jsonl"),
    ([*TRAIN, "--data", "TMP/broken.jsonl"], "line 2"),
    ([*TRAIN, "--data", "chains"], "--limit"),
    ([*TRAIN, *CHAINS, "--c-thought", "0"], "--c-thought 0 is outside [1, 1000]"),
    (["train", "sft", "--model", "TMP/nomodel", "--out", "TMP/out", *CHAINS], "is no model directory"),
    (["train", "sft", "--model", "TMP/llama", "--out", "TMP/out", *CHAINS], "llama"),
    (["train", "sft", "--model", "google/gemma-2-2b-it", "--out", "TMP/out", *CHAINS], "google/gemma-2-2b-it"),
    (["train", "sft", "--model", "MODEL", "--out", "TMP/full", *CHAINS], "is not empty"),
    (["train", "sft", "--model", "MODEL", "--out", "TMP/new", *CHAINS, "--resume", "yes"], "holds no checkpoint"),
    ([*TRAIN, *CHAINS, "--trains", "thoughts"], "neither a thought adapter nor a bridge"),
    ([*TRAIN, *CHAINS, "--max-hours", "0"], "--max-hours 0"),
    (["train", "sft", *TRAIN[2:], *CHAINS, "--format", "tags", "--reasoning", "none"], "--format tags"),
    (["train", "sft", *TRAIN[2:], *CHAINS, "--rank=-1"], "--rank -1"),
    (["train", "sft", *TRAIN[2:], *CHAINS, "--rank", "2", "--targets", "wings"], "--targets wings"),
    (["train", "sft", *TRAIN[2:], *CHAINS, "--quantize", "4bit"], "--quantize 4bit"),
    ([*GRPO, *CHAINS, "--batch-size", "6"], "no whole number of groups"),
    ([*GRPO, *CHAINS, "--num-generations", "1"], "--num-generations 1"),
    ([*GRPO, *CHAINS, "--beta=-1"], "--beta -1"),
    ([*GRPO, *CHAINS, "--beta", "a"], "'a' is no number"),
    ([*GRPO, *CHAINS, "--rewards", "nothing"], "module:function"),
    ([*GRPO, *CHAINS, "--rewards", "no_such_module_here:f"], "no_such_module_here"),
    ([*GRPO, *CHAINS, "--vllm", "server", "--mode", "words"], "vLLM"),
    ([*GRPO, "--data", "TMP/two.jsonl", "--beta", "0,1"], "--holdout"),
    (["eval", "MODEL"], "--tasks or on --data"),
    (["eval", "MODEL", *CHAINS, "--tasks", "svamp"], "--tasks or on --data"),
    (["eval", "MODEL", "--tasks", "gsm9k"], "gsm9k"),
    (["eval", "MODEL", "--tasks", "svamp=TMP/two.jsonl", "--metrics", "blue"], "unknown metric 'blue'"),
    (["eval", "MODEL", "--tasks", "svamp=TMP/broken.jsonl"], "line 2"),
    (["eval", *CHAINS], "no model to evaluate"),
    (["compare"], "nothing to compare"),
    (["compare", "TMP/nomodel"], "holds no report"),
    (["vote", "MODEL"], "eval RUN --data FILE --votes 5 measures"),
    (["vote", "MODEL", "1+1=", *CHAINS], "latent-gemma eval RUN --data FILE --votes 5 measures votes"),
    (["vote", "MODEL", *CHAINS, "--base", "tiny"], "unknown option --data: latent-gemma eval RUN"),
    (["vote", "MODEL", "1+1=", "--temperatures", "hot"], "'hot' is no number"),
    (["vote", "MODEL", "1+1=", "--temperatures=-1"], "temperatures"),
    (["vote", "MODEL", "1+1=", "--traces", "0"], "--traces 0"),
    (["vote", "MODEL", "1+1=", "--noise=-1"], "noise"),
    (["vote", "MODEL", "1" * 3000], "tokens"),
    (["eval", "MODEL", *CHAINS, "--k=-1"], "--k -1"),
    (["eval", "MODEL", *CHAINS, "--k", "1,x"], "'x' is no number"),
    (["eval", "MODEL", *CHAINS, "--p", "0,1.5"], "outside [0, 1]"),
    (["ask", "MODEL", "1+1=", "--k=-2"], "--k -2"),
    (["ask", "MODEL", "1+1=", "--p", "2"], "--p 2"),
    (["ask", "MODEL", " "], "question is empty"),
    (["ask", "MODEL", "cat", "--translate", "ja", "--answer-language", "en"], "--translate"),
    (["ask", "MODEL", "cat", "--translate", "tlh"], "--translate"),
    (["eval", "MODEL", *CHAINS, "--votes=-1"], "--votes -1"),
    (["eval", "MODEL", *CHAINS, "--votes", "2", "--temperatures=-1"], "temperatures"),
    (["eval", "MODEL", *CHAINS, "--batch-size", "0"], "--batch-size 0"),
    (["eval", "MODEL", "--tasks", "chains,chains", "--limit", "2"], "names chains twice"),
    (["eval", "MODEL", "TMP/nowhere", *CHAINS], "there is no model at"),
    (["eval", "MODEL", "--data", "TMP/long.jsonl"], "question 1: 3006 tokens"),
    (["ask", "MODEL", "1" * 3000], "tokens"),
    (["ask", "TMP/nowhere", "1+1="], "there is no model at"),
    (["estimate", "--model", "google/gemma-2-2b", "--k=-1"], "--k -1"),
    (["studio"], "no run to open"),
    (["studio", "TMP/nowhere"], "there is no model at"),
    (["studio", "MODEL", "--port", "70000"], "--port 70000"),
    (["studio", "MODEL", "--share"], "unknown option --share"),
    (["data", "arithmetic", "--n", "0", "--out", "TMP/x.jsonl"], "--n 0"),
    (["data", "arithmetic", "--n", "3", "--ops", "pow", "--out", "TMP/x.jsonl"], "pow"),
]


@pytest.mark.parametrize(
    ("args", "expected"), BAD_INPUT, ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else ""
)
def test_bad_input_is_told_in_one_line_and_leaves_nothing(args, expected, bad, model, capsys):
    before = sorted(bad.rglob("*"))
    code = run(*(arg.replace("TMP", str(bad)).replace("MODEL", model) for arg in args))
    error = capsys.readouterr().err.rstrip("\n")
    assert code == 2
    assert error.startswith("latent-gemma: ")
    assert "\n" not in error
    assert expected in error
    assert sorted(bad.rglob("*")) == before, "nothing half-written"
