"""`latent-gemma eval` from end to end: after a kill, with votes, in two languages, on input nobody would want."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from latent_gemma.cli import main
from latent_gemma.evaluation import engine, voting
from latent_gemma.evaluation.answering import Batch
from latent_gemma.evaluation.items import FILE, read_items
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Written
from latent_gemma.recipes import ask
from tests.saving import save_tiny

TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
UNSTABLE = ("seconds_per_answer", "seconds_range", "peak_mem_gib")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("latent"), latent=LatentConfig(num_thoughts=2), **TINY))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("words"), latent=LatentConfig(words_format="tags"), **TINY))


def run(*args):
    return main([str(arg) for arg in args])


def report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def figures(folder):
    rows = report(folder)
    return [{k: v for k, v in row.items() if k not in UNSTABLE} for row in rows["rows"] + rows["languages"]]


@pytest.fixture
def answered(monkeypatch):
    """Counts the answers generated, those of votes included; nothing is timed."""
    counted = []
    monkeypatch.setattr("latent_gemma.recipes.evaluate.time_in_turns", lambda methods, took_s: {})

    def count(module, name, tokens_at):
        original = getattr(module, name)

        def call(model, frame, questions, *rest, **named):
            # thinking again for the controls writes one token
            if (named["max_new_tokens"] if tokens_at is None else rest[tokens_at]) > 1:
                counted.extend(questions)
            return original(model, frame, questions, *rest, **named)

        monkeypatch.setattr(module, name, call)

    count(engine, "answer_batch", 4)
    count(voting, "answer", None)
    return counted


def test_a_killed_evaluation_goes_on(model, answered, tmp_path, capsys):
    options = ["--data", "chains:length=2", "--limit", "10", "--votes", "2", "--noise", "0.5", "--metrics", "fuzzy"]
    options += ["--batch-size", "2", "--max-new-tokens", "8", "--traces", "0"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run("eval", model, *options, "--out", whole) == 0
    total = len(answered)
    assert total == 10 * (7 + 1)
    command = [sys.executable, "-m", "latent_gemma.cli", "eval", model, *options, "--out", str(part)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        log, until = part / FILE, time.monotonic() + 120
        while not (log.exists() and log.read_bytes().count(b"\n") > 12) and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with log.open("ab") as file:
        file.write(b'{"label": "lat')  # what a kill in the middle of writing leaves
    finished = len(read_items(log))
    assert 12 < finished < total
    assert not (part / "report.json").exists()

    answered.clear()
    assert run("eval", model, *options, "--out", part) == 2, "without --resume nothing is touched"
    assert "--resume auto" in capsys.readouterr().err
    assert run("eval", model, *options, "--out", part, "--resume", "yes") == 0
    assert len(answered) == total - finished
    assert figures(part) == figures(whole)
    assert [(item.setting, item.index, item.answer) for item in read_items(log)] == [
        (item.setting, item.index, item.answer) for item in read_items(whole / FILE)
    ]
    capsys.readouterr()
    for changed, said in ((["--seed", "1"], "another seed"), (["--limit", "9"], "another data")):
        assert run("eval", model, *options, *changed, "--out", part, "--resume", "auto") == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert run("eval", model, *options, "--out", tmp_path / "new", "--resume", "yes") == 2
    assert "holds no evaluation to resume" in capsys.readouterr().err
    assert run("eval", model, *options, "--resume", "auto") == 2
    assert "name it with --out" in capsys.readouterr().err


def test_a_log_of_another_model_is_refused(words, tmp_path, capsys):
    here, moved, other = (shutil.copytree(words, tmp_path / name / "run") for name in ("here", "moved", "other"))
    options = ["--data", "chains", "--limit", 2, "--max-new-tokens", 2, "--out", tmp_path / "out"]
    assert run("eval", here, *options) == 0
    assert run("eval", moved, *options, "--resume", "auto") == 0, "the same model wherever it lies"
    config = json.loads((moved / "config.json").read_text())
    config["latent"]["system"] = "Think."
    (moved / "config.json").write_text(json.dumps(config))
    save_tiny(other, latent=LatentConfig(words_format="tags"), seed=1, **TINY)
    capsys.readouterr()
    for model, changed in ((moved, "configuration of model 1"), (other, "weights of model 1")):
        assert run("eval", model, *options, "--resume", "auto") == 2
        assert f"is an evaluation with another {changed}" in capsys.readouterr().err


def test_models_by_tasks_by_k_by_p_by_votes(model, words, tmp_path, capsys):
    (tmp_path / "svamp.json").write_text('[{"Body": "A.", "Question": "How many?", "Answer": 3.0, "Equation": "1+2"}]')
    out = tmp_path / "out"
    tasks = f"svamp={tmp_path / 'svamp.json'},chains"
    options = ["--limit", 3, "--k", "1", "--p", "1", "--votes", 3, "--batch-size", 4, "--max-new-tokens", 4]
    assert run("eval", model, words, "--tasks", tasks, *options, "--controls", "none", "--out", out) == 0
    assert "answer" in capsys.readouterr().err, "progress over everything"
    data = report(out / "chains")
    latent, tagged = (os.path.basename(path) for path in (model, words))
    settings = [(row["label"], row["k"], row["p"]) for row in data["rows"]]
    assert settings == [
        *[(latent, 2, 0.0), (latent, 1, 0.0), (latent, 2, 1.0)],
        *[(f"{latent}, vote", 2, 0.0), (f"{latent}, vote", 1, 0.0), (f"{latent}, vote", 2, 1.0)],
        *[(tagged, 0, None), (f"{tagged}, vote", 0, None)],
    ]
    vote = data["rows"][3]
    assert {"pass_at_3", "agreement"} <= vote["figures"].keys()
    assert vote["latent_steps_per_answer"] == 6
    assert vote["peak_mem_gib"] > 0
    titles = [table["title"] for table in data["tables"]]
    assert titles[-1] == "Extraction and cost"
    assert any("maj@k" in title for title in titles)
    assert (out / "chains" / "maj_at_k.png").is_file()
    votes = [item for item in read_items(out / "chains" / FILE) if item.traces]
    assert len(votes) == 3 * 4
    assert all(len(item.traces) == 3 and item.tokens == sum(t.tokens for t in item.traces) for item in votes)
    assert len({row["label"] for row in report(out / "svamp")["rows"]}) == 4


def hostile(texts, monkeypatch):
    def answer(model, frame, questions, *rest):
        given = [texts[question] for question in questions]
        return Batch([Written(text, "", text, text, True, 5, True) for text in given], 0.1, [], [0] * len(given))

    monkeypatch.setattr(engine, "answer_batch", answer)


def test_two_languages_in_one_data_set(words, tmp_path, monkeypatch):
    rows = [
        ("りんごは英語で何ですか。", "apple", "apple"),
        ("日本の首都は？", "東京", "Tokyo"),
        ("花は何色ですか。", "赤い花です", "赤い花です"),
        ("What is the capital of Japan?", "Tokyo", "The answer is Tokyo."),
    ]
    data = tmp_path / "both.jsonl"
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer, _ in rows]
    data.write_text("\n".join(lines))
    asked = []

    def answers(instruction):
        hostile({question + instruction.get(question[0], ""): said for question, _, said in rows}, monkeypatch)
        original = engine.answer_batch
        monkeypatch.setattr(engine, "answer_batch", lambda *args: (asked.extend(args[2]), original(*args))[1])

    answers({})
    metrics = ["--metrics", "fuzzy,bleu,language", "--traces", 0]
    assert run("eval", words, "--data", data, *metrics, "--out", tmp_path / "same") == 0
    found = report(tmp_path / "same")
    english, japanese = found["languages"]
    assert (english["language"], english["total"], english["correct"]) == ("en", 1, 1)
    assert (japanese["language"], japanese["total"], japanese["correct"]) == ("ja", 3, 2)
    assert english["figures"]["language_share"] == 1.0
    # "apple" is what the data set answers in
    assert japanese["figures"]["language_share"] == pytest.approx(2 / 3)
    assert "13a" in english["figures"]["bleu_signature"]
    assert "ja-mecab" in japanese["figures"]["bleu_signature"]
    assert found["rows"][0]["figures"]["language_share"] == pytest.approx(3 / 4)
    assert "bleu_0_100" not in found["rows"][0]["figures"], "no tokenizer fits both"
    assert "By language" in (tmp_path / "same" / "report.md").read_text(encoding="utf-8")

    asked.clear()
    answers({question[0]: "\nAnswer in English." for question, _, _ in rows[:3]})
    assert run("eval", words, "--data", data, *metrics, "--answer-language", "en", "--out", tmp_path / "en") == 0
    own = [question.endswith("\nAnswer in English.") for question in asked[: len(rows)]]  # then those that are timed
    assert own == [True, True, True, False]
    english, japanese = report(tmp_path / "en")["languages"]
    assert (japanese["language"], japanese["answer_language"]) == ("ja", "en")
    assert japanese["figures"]["language_share"] == pytest.approx(2 / 3)
    assert read_items(tmp_path / "en" / FILE)[0].question == rows[0][0], "the log holds the question itself"


def test_a_translation_is_asked_for_as_in_the_data(words, monkeypatch, capsys):
    asked = []
    original = ask.answer
    monkeypatch.setattr(ask, "answer", lambda *args, **named: (asked.extend(args[2]), original(*args, **named))[1])
    for options in (["--translate", "ja"], ["--answer-language", "ja"], []):
        assert run("ask", words, "a cat", *options, "--max-new-tokens", 2) == 0
    assert asked == ["次の入力を日本語に翻訳してください。\na cat", "a cat\n日本語で答えてください。", "a cat"]


def test_hostile_answers_are_graded_and_kept(words, tmp_path, monkeypatch):
    said = {
        "tower": r"\boxed{9**9**9}",
        "code": r"\boxed{__import__('os').system('touch pwned')}",
        "long": "1" * 1_000_000,
        "nested": r"\boxed{" + "{" * 500 + "1" + "}" * 500 + "}",
        "lonely": "\\boxed{\ud83d}",
        "right": r"so \boxed{\frac{1}{2}}",
        "nothing": "",
    }
    data = tmp_path / "math.jsonl"
    row = {"level": "Level 1", "type": "Algebra", "solution": r"\boxed{0.5}"}
    data.write_text("\n".join(json.dumps(row | {"problem": question}) for question in said))
    hostile(said, monkeypatch)
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    assert run("eval", words, "--tasks", f"math={data}", "--metrics", "fuzzy,bleu", "--out", tmp_path / "out") == 0
    assert time.monotonic() - started < 60
    assert not (tmp_path / "pwned").exists()
    items = {item.question: item for item in read_items(tmp_path / "out" / "math" / FILE)}
    assert {question for question, item in items.items() if item.correct} == {"right"}
    assert items["long"].answer == said["long"]
    (result,) = report(tmp_path / "out" / "math")["rows"]
    assert (result["extracted"], result["marked"], result["truncated"]) == (4, 7, 0), (
        "a million digits and 500 brackets hold no answer"
    )


def test_the_data_says_how_answers_are_compared(words, tmp_path, monkeypatch, capsys):
    said = {"half": r"so \boxed{\frac{1}{2}}", "sum": r"\boxed{1+x^2}", "wrong": r"\boxed{3}"}
    gold = {"half": "0.5", "sum": "x^2+1", "wrong": "4"}
    hostile(said, monkeypatch)
    for name, column in (("math", "problem"), ("plain", "question")):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({column: question, "answer": gold[question]}) for question in said))
    right = {}
    command = ["eval", words, "--traces", 0, "--data"]
    for name, options in (("math", []), ("plain", []), ("plain", ["--answer-kind", "math"]),
                          ("math", ["--answer-kind", "text"])):  # fmt: skip
        out = tmp_path / "-".join([name, *options])
        assert run(*command, tmp_path / f"{name}.jsonl", *options, "--out", out) == 0
        right[(name, *options[1:])] = (report(out)["rows"][0]["correct"], report(out)["context"]["answers compared"])
    # a fraction is a number too, a sum is none
    spelled, expressions = "in spelling, or as numbers", "as mathematical expressions, by math-verify"
    assert right == {
        ("math",): (2, expressions),
        ("plain",): (1, spelled),
        ("plain", "math"): (2, expressions),
        ("math", "text"): (1, spelled),
    }
    assert "answers compared" in (tmp_path / "math" / "report.md").read_text()
    again = [*command, tmp_path / "math.jsonl", "--out", tmp_path / "math", "--resume", "auto"]
    assert run(*again) == 0
    capsys.readouterr()
    assert run(*again, "--answer-kind", "text") == 2
    assert "another kind of answers (math there, text here)" in capsys.readouterr().err


BAD_ROWS = [
    b'{"question": "good 1", "answer": "1"}',
    b'{"question": "no answer"}',
    b'{"question": "null", "answer": null}',
    b'{"question": "caf\xe9", "answer": "2"}',
    "{'question': 'single quotes'}".encode("utf-16"),
    b'{"question": "cut", "answer": ',
    b'["a", "list"]',
    b'{"question": "good 2", "answer": "2"}',
]


@pytest.mark.parametrize("where", ["--data", "--tasks"])
def test_bad_rows_stop_the_run_or_are_left_out(words, where, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(BAD_ROWS))
    command = ["eval", words, where, path if where == "--data" else f"gsm8k={path}", "--max-new-tokens", 2]
    assert run(*command, "--out", tmp_path / "stops") == 2
    error = capsys.readouterr().err
    assert "line 2" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "stops").exists()
    assert run(*command, "--out", tmp_path / "goes", "--skip-bad") == 0
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if line.startswith("left out: ")]
    assert all(f"{path}, line {number}" in line for number, line in zip(range(2, 8), told, strict=True))
    folder = tmp_path / "goes" if where == "--data" else tmp_path / "goes" / "gsm8k"
    assert [item.question for item in read_items(folder / FILE)] == ["good 1", "good 2"]
    assert "malformed rows left out" in report(folder)["context"]["data"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_table_of_mixed_encodings(words, name, tmp_path, capsys):
    comma = b"," if name.endswith("csv") else b"\t"
    rows = [b"question,answer", b"good,1", b"caf\xe9,2", "みかん,3".encode(), "みかん,4".encode("cp932"), b"last,5"]
    path = tmp_path / name
    path.write_bytes(b"\n".join(row.replace(b",", comma) for row in rows))
    command = ["eval", words, "--data", path, "--max-new-tokens", 2, "--out", tmp_path / "out"]
    assert run(*command) == 2
    assert "line 3" in (error := capsys.readouterr().err)
    assert "UTF-8" in error
    assert run(*command, "--skip-bad") == 0
    assert [item.question for item in read_items(tmp_path / "out" / FILE)] == ["good", "みかん", "last"]


def test_a_task_that_cannot_be_read_costs_no_other(words, tmp_path, capsys):
    (tmp_path / "good.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    tasks = f"gsm8k={tmp_path / 'good.jsonl'},math={tmp_path / 'bad.parquet'}"
    command = ["eval", words, "--tasks", tasks, "--max-new-tokens", 2, "--out", tmp_path / "out"]
    assert run(*command) == 2
    assert "expected Parquet" in capsys.readouterr().err
    assert run(*command, "--skip-bad") == 0
    assert "left out: task math=" in capsys.readouterr().out
    assert (tmp_path / "out" / "gsm8k" / "report.html").exists()


def test_a_question_longer_than_the_model(words, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": "1" * 3000, "answer": "1"}, {"question": "1+1", "answer": "2" * 1_000_000}]
    path.write_text("\n".join(map(json.dumps, rows)))
    command = ["eval", words, "--data", path, "--max-new-tokens", 2, "--out", tmp_path / "out"]
    assert run(*command, "--skip-bad") == 0
    assert "left out of words: " in capsys.readouterr().out
    assert [item.question for item in read_items(tmp_path / "out" / FILE)] == ["1+1"]


def test_what_a_broken_second_model_leaves(words, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    command = [
        "eval",
        words,
        broken,
        "--data",
        "chains",
        "--limit",
        3,
        "--max-new-tokens",
        2,
        "--out",
        tmp_path / "out",
    ]
    assert run(*command) == 2
    shown = capsys.readouterr()
    assert "--resume auto goes on" in " ".join(shown.out.split())
    assert len(read_items(tmp_path / "out" / FILE)) == 3


def test_processes_launched_together_share_the_answers(model, tmp_path):
    options = ["--data", "chains:length=2", "--limit", "7", "--votes", "2", "--noise", "0.5", "--k", "0,1"]
    options += ["--batch-size", "2", "--max-new-tokens", "8", "--traces", "0"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run("eval", model, *options, "--out", alone) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, "latent_gemma.cli", "eval", model, *options, "--out", str(together)]
    subprocess.run(command, env=environment, check=True, timeout=200)
    assert figures(together) == figures(alone)
    stable = [
        sorted(
            (item.setting.label, item.k, item.control, item.index, item.answer, item.tokens)
            for item in read_items(folder / FILE)
        )
        for folder in (alone, together)
    ]
    assert stable[0] == stable[1]


def test_harder_questions_are_asked_under_the_main_setting(model, words, answered, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--data", "chains:length=2", "--ood", "chains:length=3", "--limit", 4, "--k", 1, "--p", 1]
    options += ["--max-new-tokens", 2, "--traces", 0, "--out", out]
    assert run("eval", model, words, *options) == 0
    asked = 4 * ((4 + 5) + 1 + 2)  # K 2, 0 and 1, p = 1, five controls; words; and both on harder ones
    assert len(answered) == asked
    data = report(out)
    (grid,) = (table for table in data["tables"] if table["title"] == "Questions of another kind")
    latent, tagged = (os.path.basename(path) for path in (model, words))
    assert [row[:2] for row in grid["rows"]] == [
        [name, questions] for name in (latent, tagged) for questions in ("the questions above", "chains:length=3")
    ]
    scored = [(row["k"], row["p"], row["control"]) for row in data["rows"] if row["answer_logprob"] is not None]
    assert scored == [(2, 0.0, "none"), (0, None, "none"), (2, 0.0, "swap")], "not behind words"
    assert any(table["title"] == "Against the best" for table in data["tables"])
    assert "chains:length=3" in data["context"]["further data"]
    harder = read_items(out / "ood" / FILE)
    assert [len(item.question) for item in harder] == [8] * 8
    answered.clear()
    assert run("eval", model, words, *options, "--resume", "auto") == 0
    assert answered == []
    assert report(out)["tables"] == data["tables"]
    capsys.readouterr()
    harder_still = [option.replace("length=3", "length=4") if isinstance(option, str) else option for option in options]
    assert run("eval", model, words, *harder_still, "--resume", "auto") == 2
    assert "another data" in capsys.readouterr().err


def test_curves_of_controls_are_drawn(model, tmp_path):
    out = tmp_path / "out"
    options = ["--data", "chains:length=2", "--limit", 3, "--controls", "full", "--max-new-tokens", 2, "--traces", 0]
    assert run("eval", model, *options, "--out", out) == 0
    names = {path.name for path in out.iterdir()}
    assert {"accuracy_over_k.png", "accuracy_over_noise.png", "accuracy_over_kept.png", "controls.png"} <= names
    assert {row["control"] for row in report(out)["rows"]} >= {"keep_1", "noise_0.25", "noise_2", "permute"}
    assert all(row["answer_logprob"] < 0 for row in report(out)["rows"])
