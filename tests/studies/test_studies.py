"""The study behind results/bilingual as a script: a small twin that always runs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bilingual import HELD_OUT, LEARNT, Bilingual, read_rows, run_bilingual
from shared import command

from latent_gemma.errors import RunError
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.text.language import translation_target

STUDIES = Path(__file__).parents[2] / "studies"
THINGS = ("りんご", "卵", "石", "箱", "鉛筆", "瓶", "傘", "花")


def test_a_study_is_a_script_that_shows_its_options():
    done = subprocess.run(
        [sys.executable, STUDIES / "bilingual.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout


@pytest.fixture
def files(tmp_path):
    """Translations both ways, each sentence in two pairs, and a quiz whose questions come twice."""
    said = [(f"Tom has {n} {n % 8}.", f"トムは{THINGS[n % 8]}を{n}個持っています。") for n in range(80)]
    pairs = said + [(f"Well, {english}", japanese) for english, japanese in said]
    rows = [{"instruction": "次の入力を日本語に翻訳してください。", "input": en, "output": ja} for en, ja in pairs]
    rows += [{"instruction": "次の入力を英語に翻訳してください。", "input": ja, "output": en} for en, ja in pairs]
    quiz = [
        {"instruction": f"{THINGS[n % 8]}は{n}個ですか?", "input": "はい、いいえ", "output": answer}
        for n in range(80) for answer in ("はい", "いいえ")
    ]  # fmt: skip
    for name, made in {"pairs": rows, "quiz": quiz}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    return tmp_path / "pairs.json", tmp_path / "quiz.json"


@pytest.fixture
def small(files, tmp_path):
    return Bilingual(
        files, model="tiny", out=tmp_path / "out", models=tmp_path / "models", items=2, max_tokens=110, num_thoughts=2,
        text_steps=1, steps=2, batch_size=4,
    )  # fmt: skip


def test_no_question_and_no_sentence_is_on_both_sides(small):
    whole = replace(small, rows=500, items=500)
    train, tests = read_rows(whole, build_tokenizer())
    assert train.keys() == tests.keys() == {"en-ja", "ja-en", "quiz"}

    def texts(kinds):
        for row in (row for rows in kinds.values() for row in rows):
            question = row.question.partition("\n")[2] if translation_target(row.question) else row.question
            yield from (question, row.answer) if translation_target(row.question) else (question,)

    assert set(texts(train)).isdisjoint(texts(tests))
    assert read_rows(replace(whole, max_tokens=70), build_tokenizer())[0].keys() == {"quiz"}, "longer rows are left out"


def test_every_method_is_measured_on_rows_it_learnt_and_on_others(small):
    report = run_bilingual(small)
    assert {row.label for row in report.rows} == {"no reasoning", "annealed"}
    assert next(row.k for row in report.rows if row.label == "annealed") == 2
    (grid,) = (grid for grid in report.tables if grid.title == "Learnt and held out")
    assert grid.header == ("model", "rows", "kind", "n", "exact", "fuzzy", "BLEU"), "without an encoder no BERTScore"
    labels = ("base", "no reasoning", "annealed")
    kinds = ("en-ja", "ja-en", "quiz")
    assert {line[:3] for line in grid.rows} == {
        (label, side, kind) for label in labels for side in (LEARNT, HELD_OUT) for kind in kinds
    }
    assert "ja-mecab" in grid.note
    assert "tok:13a" in grid.note
    kept = "".join(path.read_text(encoding="utf-8") for path in small.out.iterdir() if path.suffix in (".json", ".md"))
    assert "りんご" not in kept, "rows of the files stay out of the report"


def test_it_stops_and_goes_on(small, tmp_path, capsys):
    whole = run_bilingual(small)
    config = replace(small, out=tmp_path / "cut", models=tmp_path / "m2", resume="auto")
    assert run_bilingual(replace(config, max_hours=1e-9)) is None
    assert "unfinished and not reported: no reasoning, text stage, annealed" in capsys.readouterr().out
    assert not (tmp_path / "cut").exists()
    again = run_bilingual(config)
    assert [(row.label, row.control, row.correct) for row in again.rows] == [
        (row.label, row.control, row.correct) for row in whole.rows
    ]


def test_a_folder_that_is_not_free_is_told_before_anything_is_trained(small):
    small.out.mkdir()
    (small.out / "report.json").write_text("{}")
    with pytest.raises(RunError, match="is not empty"):
        run_bilingual(small)
    assert not small.models.exists()


def test_what_cannot_be_read_is_told_in_a_line(small, tmp_path, capsys):
    assert command(Bilingual, run_bilingual, [str(tmp_path / "none.json"), "--model", "tiny"]) == 2
    assert "none.json" in capsys.readouterr().err
    short = [*map(str, small.data), "--model", "tiny", "--max-tokens", "3"]
    assert command(Bilingual, run_bilingual, short) == 2
    assert "no row of at most 3 tokens" in capsys.readouterr().err
