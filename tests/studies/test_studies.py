"""The studies behind results/: small twins that always run, and the whole ones with their bars."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bilingual import Bilingual, run_bilingual, vocabulary
from prosqa import METHODS, Prosqa, phrase_tokenizer, run_prosqa
from shared import command

from latent_gemma.data.bilingual import bilingual_rows
from latent_gemma.data.prosqa import ProsqaConfig, prosqa_examples
from latent_gemma.inspection.select import control_rows, main_rows
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.prompt import Frame

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("name", ["prosqa", "bilingual"])
def test_a_study_is_a_script_that_shows_its_options(name):
    done = subprocess.run(
        [sys.executable, STUDIES / f"{name}.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def accuracies(report):
    return [(row.label, row.k, row.p, row.control, row.correct) for row in report.rows]


def test_a_sentence_of_prosqa_has_two_tokens_and_comes_back_whole():
    tokenizer = phrase_tokenizer()
    frame = Frame(tokenizer, LatentConfig(step_separator=""))
    for example in itertools.islice(prosqa_examples(ProsqaConfig(8, 2, 3), "train", 0), 50):
        sentences = example.question.count(".")
        assert len(frame.text_ids(example.question)) == 2 * sentences + 3
        for text in (*example.steps, example.answer):
            ids = frame.text_ids(text)
            assert len(ids) == 2
            assert tokenizer.decode(ids) == text


def test_prosqa_keeps_its_report_apart_from_its_models(tmp_path):
    rows = [{"question": "Tom is a lempus. Is Tom a lempus or rempus?", "steps": [], "answer": "Tom is a lempus."}]
    published = tmp_path / "published.json"
    published.write_text(json.dumps(rows))
    out, models = tmp_path / "results" / "prosqa", tmp_path / "models"
    config = Prosqa(out=out, models=models, published=published, items=4, scale=0.001)
    report = run_prosqa(config)
    assert list(main_rows(report.rows)) == ["words", "COCONUT", "annealed", "no reasoning"]
    controls = set(control_rows(report.rows, main_rows(report.rows)["COCONUT"]))
    assert controls == {"zero", "noise", "swap", "permute", "pause", "k0"}
    assert [grid.title for grid in report.tables][:2] == ["Training", "Questions of another kind"]
    assert len(report.tables[0].rows) == len(METHODS)
    assert {"report.json", "report.md", "accuracy_over_k.png", "controls.png"} <= names(out)
    assert not [name for name in names(out) if name.endswith((".safetensors", ".jsonl"))]
    record = json.loads((models / "coconut" / "run.json").read_text())
    assert record["recipe"] == "studies/prosqa"
    assert record["parent"] == str(models / "words")
    assert command(Prosqa, run_prosqa, ["--out", str(out)]) == 2, "results that are there are not overwritten"
    weights = models / "coconut" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = replace(config, out=tmp_path / "again", resume="auto")
    assert accuracies(run_prosqa(again)) == accuracies(report)
    assert weights.stat().st_mtime_ns == before, "what is trained is not trained again"


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
