"""Runs as they lie on a disk: what they are, and what is shown of them."""

import json
import os
import time

from latent_gemma.studio import run_folders
from latent_gemma.studio.run_folders import find_runs, known_questions, report, table
from latent_gemma.training.run_log import read_metrics


def test_runs_are_found_with_their_state(runs):
    found = {run.name: run for run in find_runs(runs)}
    assert list(found) == ["done", "going/seed-0/<b>on"]
    assert [run.state for run in found.values()] == ["finished", "going on"]
    assert found["done"].entries[2]["loss"] == 1 / 3
    page = table(list(found.values()), "done")
    assert "&lt;b&gt;on" in page
    assert "<b>" not in page
    assert page.count('aria-pressed="true"') == 1


def test_what_writes_nothing_has_stopped_and_what_is_broken_is_shown(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "settings.json").write_text("{broken")
    (folder / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 2}\n[1]\n{"step": 2, "lo')
    for file in folder.iterdir():
        os.utime(file, (time.time() - 1000,) * 2)
    [run] = find_runs(tmp_path)
    assert (run.state, run.record, run.entries) == ("stopped", {}, [{"step": 1, "loss": 2}])
    assert report(run) == ""
    assert find_runs(tmp_path / "nowhere") == []


def test_a_report_is_framed_and_may_do_nothing(runs):
    done, going = find_runs(runs)
    page = report(done)
    assert page.startswith('<iframe class="report" title="report" sandbox srcdoc="')
    assert "default-src &#x27;none&#x27;" in page[:300]
    assert "<script>" not in page
    assert report(going) == "", "of no other run"


def test_questions_are_those_of_the_data_a_run_was_trained_on(tmp_path):
    method = tmp_path / "study" / "seed-0" / "annealed"
    method.mkdir(parents=True)
    assert known_questions(str(method)) == []
    (method.parents[1] / "run.json").write_text(json.dumps({"config": {"data": {"data": "chains:length=2"}}}))
    questions = known_questions(str(method), 5)
    assert len(questions) == 5
    assert all(len(example.steps) == 2 for example in questions)
    for data in ("chains:colour=2", "owner/name", "/nowhere.jsonl"):
        (method / "run.json").write_text(json.dumps({"config": {"data": {"data": data}}}))
        assert known_questions(str(method)) == []


def test_a_log_is_read_again_only_when_it_has_grown(runs, monkeypatch):
    (run,) = [run for run in find_runs(runs) if run.name == "done"]
    read = []
    monkeypatch.setattr(run_folders, "read_metrics", lambda path: read.append(path) or read_metrics(path))
    log = runs / "done" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 4, "loss": 0.25}\n')
    assert [len(run.entries), len(run.entries), len(read)] == [4, 4, 1]
    log.write_text(log.read_text() + '{"step": 5, "loss": 0.2}\n')
    assert [len(run.entries), len(read)] == [5, 2]
