"""A study trains what each method needs and goes on where it was stopped; what is unfinished is not reported."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from latent_gemma.cli import config_class, main, parse
from latent_gemma.errors import ConfigError
from latent_gemma.recipes.methods import METHODS, STEPLESS, Budget, methods_of, text_stage
from latent_gemma.recipes.study_clock import StudyClock
from latent_gemma.text.columns import spoken
from latent_gemma.training.clean_stop import CleanStop
from tests.faults.recipes import without_times
from tests.saving import save_tiny

TINY = "hidden_size=32,num_layers=2,num_heads=2,intermediate_size=64"
DATA = ["--data", "chains:length=2", "--items", "5", "--max-new-tokens", "4", "--step-separator", ""]
SHORT = [*DATA, "--batch-size", "4", "--lr", "1e-3", "--log-every", "1"]
STUDY = ["study", "--model", "tiny", "--tiny", TINY, *SHORT, "--steps", "3", "--methods", "words,anneal"]
BUDGET = Budget(text_steps=30, steps=40, longest=4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # what a chart looks like is tested elsewhere, and drawing them takes longer than all of this training
    monkeypatch.setattr("latent_gemma.inspection.write.write_plots", lambda report, folder: None)
    monkeypatch.setattr("latent_gemma.inspection.write.write_html", lambda report, page: None)
    monkeypatch.setattr("latent_gemma.recipes.stage.training_curves", lambda *_: {})
    return tmp_path


def content(folder):
    """What a study leaves, without what a clock says: weights bit for bit, losses, answers, rows."""
    found = {}
    timed = ("seconds", "seconds_per_answer", "seconds_range", "peak_mem_gib")
    for path in sorted(folder.rglob("*")):
        name, relative = path.name, path.relative_to(folder).as_posix()
        if "checkpoints" in relative or path.is_dir():
            continue
        if path.suffix == ".safetensors":
            found[relative] = path.read_bytes()
        elif name in ("metrics.jsonl", "items.jsonl"):
            lines = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
            found[relative] = [{key: line[key] for key in line if key not in timed} for line in lines]
        elif name == "report.json":
            rows = report(path.parent)["rows"]
            found[relative] = [{key: row[key] for key in row if key not in timed} for row in rows]
        elif name == "run.json" and "metrics" in (record := json.loads(path.read_text())):
            found[relative] = {key: record[key] for key in ("steps", "seed", "mode", "parent_sha256", "data_sha256")}
    return found


def report(folder):
    return json.loads((folder / "report.json").read_text())


def labels(folder):
    return list(dict.fromkeys(row["label"] for row in report(folder)["rows"]))


def strike_in(monkeypatch, number):
    """Has Ctrl-C typed in step 2 of the run of this number; returns what undoes it."""
    begin, runs = CleanStop.on_step_begin, []

    def strike(self, args, state, control, **kwargs):
        begin(self, args, state, control, **kwargs)
        runs.extend([self] if self not in runs else [])
        if len(runs) == number and state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(CleanStop, "on_step_begin", strike)
    return lambda: monkeypatch.setattr(CleanStop, "on_step_begin", begin)


def test_a_study_that_was_stopped_twice_ends_as_if_it_never_was(here, monkeypatch, capsys):
    command = [*STUDY, "--seeds", "0,1", "--resume", "auto", "--ood", "chains:length=3", "--out"]
    assert main([*command, "whole"]) == 0
    whole = content(here / "whole")
    assert labels(here / "whole" / "seed-1") == labels(here / "whole") == ["words", "annealed"]
    assert [grid["title"] for grid in report(here / "whole")["tables"]][:1] == ["Over seeds"]
    assert "Questions of another kind (seed 0)" in [grid["title"] for grid in report(here / "whole")["tables"]]
    assert {row["total"] for row in report(here / "whole")["rows"]} == {10}, "5 questions under each of 2 seeds"
    assert whole["seed-0/words/model/model.safetensors"] != whole["seed-1/words/model/model.safetensors"]
    capsys.readouterr()

    undo = strike_in(monkeypatch, 2)  # in the second run of the first seed
    assert main([*command, "cut"]) == 0
    undo()
    later = "annealed, seed 0, text stage, seed 1, words, seed 1, annealed, seed 1"
    said = f"stopped in words, seed 0 at step 2; unfinished and not reported: words, seed 0, {later};"
    assert said in capsys.readouterr().out
    assert not list(here.glob("cut/**/report.json"))
    assert not (here / "cut" / "seed-0" / "words" / "run.json").exists()

    undo = strike_in(monkeypatch, 3)  # goes on with the one that was stopped; then in the first of the next seed
    assert main([*command, "cut"]) == 0
    undo()
    left = "text stage, seed 1, words, seed 1, annealed, seed 1"
    assert f"unfinished and not reported: {left};" in capsys.readouterr().out
    assert main([*command, "cut"]) == 0
    assert content(here / "cut") == whole


def test_what_is_finished_is_neither_trained_nor_measured_again(here, monkeypatch):
    command = [*STUDY, "--resume", "auto", "--out", "out"]
    assert main(command) == 0
    before = content(here / "out")
    weights = here / "out" / "seed-0" / "annealed" / "model" / "model.safetensors"
    then = weights.stat().st_mtime_ns
    assert main([*command[:-4], "--out", "out"]) == 2, "without --resume nothing is touched"
    assert main([*command, "--lr", "1e-4"]) == 2
    with monkeypatch.context() as patch:
        patch.setattr("latent_gemma.evaluation.engine.single_item", None)
        assert main(command) == 0
    assert weights.stat().st_mtime_ns == then
    assert content(here / "out") == before
    assert main([*command, "--methods", "words,anneal,none"]) == 0, "a study may be asked for more"
    assert weights.stat().st_mtime_ns == then
    assert labels(here / "out") == ["words", "annealed", "no reasoning"]


def test_a_question_that_is_too_long_is_told_before_anything_is_trained(here, capsys):
    rows = [{"question": "1+1=", "steps": ["2"], "answer": "2"}] * 5 + [{"question": "1" * 3000, "answer": "1"}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*STUDY, "--data", "rows.jsonl", "--holdout", "2", "--out", "out"]) == 2
    assert "test question 2: 3006 tokens, and the model takes 2048" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_method_whose_time_is_up_is_not_in_the_report(here, monkeypatch, capsys):
    shares = iter([None, None, 1e-9, None])
    monkeypatch.setattr(StudyClock, "share_hours", lambda clock: next(shares))
    command = [*STUDY, "--methods", "words,anneal,none", "--resume", "auto", "--out", "out"]
    assert main(command) == 0
    assert "unfinished and not reported: annealed;" in capsys.readouterr().out
    assert labels(here / "out") == ["words", "no reasoning"]
    assert not (here / "out" / "run.json").exists()
    monkeypatch.setattr(StudyClock, "share_hours", lambda clock: None)
    assert main(command) == 0
    assert labels(here / "out") == ["words", "annealed", "no reasoning"]
    assert (here / "out" / "run.json").exists()


def test_each_session_gets_on_and_what_has_no_parent_waits(here, capsys):
    assert main([*STUDY, "--max-hours", "1e-9", "--out", "out"]) == 0
    assert "unfinished and not reported: text stage, words, annealed;" in capsys.readouterr().out
    assert list((here / "out" / "seed-0" / "text-stage" / "checkpoints").iterdir())
    assert not (here / "out" / "seed-0" / "annealed").exists()


def test_hours_are_shared_out_among_the_runs_that_are_left(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = StudyClock({"done": 0, "a": 10, "b": 10, "c": 30}, started_s=1000.0, max_hours=3.0)
    clock.begins()
    clock.ends("done")
    clock.begins()
    assert (clock.place, clock.share_hours()) == ("2/4", 1.0)
    clock.trained(10)
    now[0] += 1800.0
    clock.ends("a")
    assert (clock.place, clock.share_hours()) == ("3/4, 2.0 h left", 1.25), "what one leaves the others have"
    clock.begins()
    clock.trained(2)
    now[0] += 9001.0
    clock.ends("b")
    assert clock.share_hours() == 0.0
    assert StudyClock({"a": 1}, 0.0, None).share_hours() is None
    assert StudyClock({"a": 1}, 0.0, 0.1).share_hours() > 0.0, "the first of a session takes a step"
    assert [spoken(seconds) for seconds in (42.4, 720.0, 12600.0)] == ["42 s", "12 min", "3.5 h"]


def test_every_method_after_the_text_stage_has_the_same_steps():
    methods = {name: METHODS[name](BUDGET) for name in METHODS}
    assert text_stage(BUDGET).steps == 30
    assert methods["none"].steps == 70
    later = {name: method for name, method in methods.items() if name not in ("soft", "none")}
    assert {method.parent for method in later.values()} == {"text stage"}
    assert {method.steps for method in later.values()} == {40}, "words has as many examples as what it is compared with"
    assert (methods["soft"].steps, methods["soft"].curriculum, methods["soft"].asked) == (0, None, "latent")
    assert methods["soft"].parent == "words"
    assert len({method.label for method in methods.values()} | {m.folder for m in methods.values()}) >= len(methods)


def test_coconut_replaces_every_step_and_drops_those_that_may_not_be_latent():
    whole, part = (
        METHODS["coconut"](budget).curriculum for budget in (Budget(1, 1, 6), Budget(1, 1, 6, max_latent_steps=2))
    )
    assert whole.stage_at(1.0, 0.0).latent_steps == 6
    assert (part.stage_at(1.0, 0.0).max_thought_steps, part.stage_at(1.0, 0.0).keeps_rest) == (2, True)
    assert part.stage_at(1.0, 0.0).latent_steps > 6, "the steps behind the last thought are dropped in the end"


def test_stages_mix_or_ask_for_the_next_step_alone_where_told():
    plain, mixed, alone = (
        METHODS[name](budget).curriculum.stage_at(0.5, 0.0)
        for name, budget in (("coconut", BUDGET), ("coconut-mixed", BUDGET), ("pause", replace(BUDGET, next_only=True)))
    )
    assert (plain.mix_prob, plain.draws_up_to, plain.next_only) == (0.1, None, False)
    assert mixed == replace(plain, mix_prob=0.0, draws_up_to=plain.number)
    assert alone == replace(plain, next_only=True)


def test_without_written_steps_every_question_thinks_as_many_thoughts():
    budget = Budget(2, 4, longest=0, max_latent_steps=3)
    methods = {method.label: method for method in methods_of(STEPLESS, budget)}
    assert budget.most == 3
    for label in ("annealed", "pause", "parallel"):
        begin, end = (methods[label].curriculum.stage_at(progress, longest=0) for progress in (0.0, 1.0))
        assert (begin.steps_thought(0), end.steps_thought(0)) == (1, 3), "K grows"
        assert (end.p, begin.anchor_weight, begin.halt_weight) == (0.0, 0.0, 0.0), "nothing to anchor, nor to end on"
        assert end.mode(0) == "latent"
    assert methods["text stage"].curriculum.reasoning == "none"
    with pytest.raises(ConfigError, match=r"coconut needs written steps.*choose from none,anneal,pause,parallel"):
        methods_of(["none", "coconut"], budget)


def test_a_study_of_questions_and_answers_alone(here, capsys):
    rows = [{"question": f"{n % 7}+{n % 5}=", "answer": str(n % 7 + n % 5)} for n in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [*STUDY, "--data", "rows.jsonl", "--holdout", "6", "--out", "out", "--methods"]
    assert main([*command, "none,anneal"]) == 2
    assert "rows.jsonl has no written steps to count thoughts by: say how many" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main([*command, "none,anneal,pause", "--max-latent-steps", "3", "--k", "0,3"]) == 0
    rows = report(here / "out")["rows"]
    main_k = {label: next(row["k"] for row in rows if row["label"] == label) for label in labels(here / "out")}
    assert main_k == {"no reasoning": 0, "annealed": 3, "pause": 3}
    assert {row["control"] for row in rows if row["label"] == "annealed"} >= {"none", "zero", "swap"}


def test_methods_stand_behind_what_they_go_on_from():
    assert [method.label for method in methods_of(["anneal", "words", "none"], BUDGET)] == [
        "text stage", "annealed", "words", "no reasoning",
    ]  # fmt: skip
    for name, line in {
        "coconut": [("text stage", False), ("COCONUT", True)],
        "soft": [("text stage", False), ("words", False), ("soft", True)],
        "none": [("no reasoning", True)],
    }.items():
        assert [(method.label, method.measured) for method in methods_of([name], BUDGET)] == line


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["coconut", "aneal"], "there is no method 'aneal': did you mean anneal?"),
        (["grpo"], "there is no method 'grpo': choose from none,words,"),
        (["words", "none", "words"], "names words twice"),
        ([], "--methods names none"),
    ],
)
def test_a_method_that_is_none_is_told(names, said):
    with pytest.raises(ConfigError) as error:
        methods_of(names, BUDGET)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--seeds 0,0", "--seeds 0,0 names 0 twice"),
        ("--seeds 0,-1", "--seeds -1 is out of range"),
        ("--methods words,cocnut", "did you mean coconut?"),
        ("--tiny width=3", "unknown size 'width'"),
        ("--tiny hidden_size", "hidden_size has no number: write hidden_size=128"),
        ("--model base", "--tiny with --model base"),
        ("--data rows.jsonl", "keep test rows back with --holdout"),
        ("--data chains:length=2;modulus=11", "modulo 11"),
    ],
)
def test_what_cannot_be_studied_is_told_in_one_line(typed, said, here, capsys):
    Path("rows.jsonl").write_text('{"question": "1+1=", "steps": ["2"], "answer": "2"}\n' * 3)
    words = typed.split()
    assert main([*STUDY, "--out", "out", words[0], words[1]]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_seeds_and_sizes_are_read():
    config = parse(config_class("study"), [*STUDY[1:], "--out", "o", "--seed", "7"], "study")
    assert config.all_seeds == (7,)
    assert replace(config, seeds="2, 0").all_seeds == (2, 0)
    assert config.sizes == {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


def test_a_study_of_a_saved_model_with_an_adapter_on_held_out_rows(here):
    save_tiny("base", hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    rows = [{"question": f"{i}+1=", "steps": [str(i + 1)], "answer": str(i + 1)} for i in range(12)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["study", "--model", "base", "--holdout", "4", *SHORT, "--epochs", "0.5", "--rank", "2"]
    assert main([*command, "--data", "rows.jsonl", "--methods", "coconut,soft", "--out", "out"]) == 0
    found = report(here / "out")["rows"]
    shown = {(row["label"], row["total"], row["mode"]) for row in found}
    assert shown == {("COCONUT", 4, "latent"), ("soft", 4, "latent")}
    assert "auto" in {row["k"] for row in found if row["label"] == "soft"}, "it ends its thinking itself"
    assert not (here / "out" / "seed-0" / "soft" / "run.json").exists(), "there is nothing to train"
    for method, parent in (("text-stage", "base"), ("coconut", "out/seed-0/text-stage")):
        folder = here / "out" / "seed-0" / method
        record = json.loads((folder / "run.json").read_text())
        assert (record["parent"], record["steps"], record["data_rows"]) == (parent, 1, 8)
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()


def counted(capsys, *options):
    """Steps and FLOP a step that an estimate says."""
    assert main(["estimate", "--prompt", "20", *options]) == 0
    steps, flop = re.search(r"([\d,]+) steps of ([\d,.]+) TFLOP", capsys.readouterr().out).groups()
    return int(steps.replace(",", "")), float(flop)


def test_an_estimate_of_a_study_is_the_sum_of_its_runs(here, capsys):
    said = 'model = "google/gemma-2-2b"\nout = "o"\nseeds = "0,1,2"\ntext_steps = 50\ndata = "d.jsonl"\n'
    said += "steps = 100\nbatch_size = 64\nrank = 0\n"
    size = ["--rank", "0", "--batch-size", "64", "--no-checkpointing", "--precision", "float32"]
    # The text stage of 50 steps stands in front of "words", and is trained once.
    asked = {"none": (150, "0", "3"), "words": (50 + 100, "0", "10"), "coconut": (100, "7", "3")}
    total = {
        name: (steps, counted(capsys, "--model", "google/gemma-2-2b", *size, "--k", k, "--answer", answer)[1])
        for name, (steps, k, answer) in asked.items()
    }
    Path("study.toml").write_text(said + f'methods = "{",".join(total)}"\n')
    steps, flop = counted(capsys, "--study", "study.toml", "--k", "7", "--answer", "3")
    assert steps == 3 * sum(count for count, _ in total.values())
    assert flop == pytest.approx(3 * sum(count * one for count, one in total.values()) / steps, rel=0.01)


@pytest.mark.parametrize("typed", [[], ["--study", "s.toml", "--model", "m"]])
def test_an_estimate_is_of_a_run_or_of_a_study(typed, here, capsys):
    assert main(["estimate", *typed]) == 2
    assert "give one of --model and --study" in capsys.readouterr().err
