"""The study behind results/bilingual as a script: a small twin that always runs."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bilingual import Bilingual, run_bilingual, vocabulary
from shared import command

from latent_gemma.data.bilingual import bilingual_rows

STUDIES = Path(__file__).parents[2] / "studies"


def test_a_study_is_a_script_that_shows_its_options():
    done = subprocess.run(
        [sys.executable, STUDIES / "bilingual.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def accuracies(report):
    return [(row.label, row.k, row.p, row.control, row.correct) for row in report.rows]


def test_bilingual_measures_each_kind_of_row(tmp_path, monkeypatch):
    monkeypatch.setattr("bilingual._ROWS", 50)
    out = tmp_path / "bilingual"
    report = run_bilingual(Bilingual(out=out, models=tmp_path / "model", items=3, steps=2))
    assert [row.label for row in report.rows] == ["en-ja", "ja-en", "quiz-en", "quiz-ja"]
    for row in report.rows:
        assert {"fuzzy_0_100", "bleu_0_100", "language_share"} <= row.figures.keys()
        assert "bertscore_f1" not in row.figures
    assert "ja-mecab" in report.rows[0].figures["bleu_signature"]
    assert "tok:13a" in report.rows[1].figures["bleu_signature"]
    assert report.verdict.endswith("BERTScore: not measured.")
    assert {"report.json", "report.md"} <= names(out)


def test_bilingual_stops_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bilingual._ROWS", 50)
    whole = run_bilingual(Bilingual(out=tmp_path / "whole", models=tmp_path / "m1", items=3, steps=3))
    config = Bilingual(out=tmp_path / "cut", models=tmp_path / "m2", items=3, steps=3, resume="auto")
    assert run_bilingual(replace(config, max_hours=1e-9)) is None
    assert "stopped in bilingual at step 1; unfinished and not reported: bilingual" in capsys.readouterr().out
    assert not (tmp_path / "cut").exists()
    assert not (tmp_path / "m2" / "run.json").exists()
    assert accuracies(run_bilingual(config)) == accuracies(whole)
    assert {row.mode for row in whole.rows} == {"none"}


def test_bilingual_on_local_files_never_measures_a_pair_it_learnt_from(tmp_path, monkeypatch):
    made = {kind: list(itertools.islice(bilingual_rows(kind, "train", 0), 60)) for kind in ("en-ja", "quiz-ja")}
    # The same pairs the other way round, as published files have them.
    made["ja-en"] = [
        {"instruction": "次の入力を英語に翻訳してください。", "input": row["output"], "output": row["input"]}
        for row in made["en-ja"]
    ]
    data = []
    for task, kind in {"en-ja": "en-ja", "ja-en": "ja-en", "jquiz": "quiz-ja"}.items():
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps(made[kind], ensure_ascii=False), encoding="utf-8")
        data.append(f"{task}={path}")
    learnt = []

    def spy(examples, least=3):
        learnt.extend(examples)
        return vocabulary(examples, least)

    monkeypatch.setattr("bilingual.vocabulary", spy)
    report = run_bilingual(Bilingual(tuple(data), out=tmp_path / "out", models=tmp_path / "m", items=50, steps=1))
    into_japanese, into_english = (
        {
            frozenset((example.question.partition("\n")[2], example.answer))
            for example in learnt
            if word in example.question
        }
        for word in ("日本語に", "英語に")
    )
    assert into_japanese == into_english, "a pair is learnt both ways or measured both ways"
    measured = {row.label: row.total for row in report.rows}
    assert measured["en-ja"] == measured["ja-en"] == 60 - len(into_japanese) > 0


def test_bilingual_data_needs_a_task_and_a_file(capsys):
    assert command(Bilingual, run_bilingual, ["translation.json"]) == 2
    assert "write the task and its file" in capsys.readouterr().err
