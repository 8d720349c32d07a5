import json

import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.local import read_file
from latent_gemma.data.rows import FileColumns
from latent_gemma.errors import DataError

ROWS = [{"question": "24 + 15?", "answer": "39"}, {"question": "何ですか", "answer": "猫"}]
EXAMPLES = [Example("24 + 15?", (), "39"), Example("何ですか", (), "猫", "ja")]


@pytest.fixture
def file(tmp_path):
    """Write a file: file("data.jsonl", text or bytes)."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def lines(rows=ROWS):
    return "".join(json.dumps(row) + "\n" for row in rows)


def error(path):
    with pytest.raises(DataError) as caught:
        list(read_file(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines()),
        ("a.JSONL", lines()),
        ("a.jsonl", "\ufeff" + lines().replace("\n", "\r\n") + "\r\n"),
        ("a.jsonl", json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1])),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", "\ufeff" + json.dumps(ROWS, indent=1).replace("\n", "\r\n")),
        ("a.json", "\ufeff" + lines()),
        ("a.csv", 'question,answer\n"24 + 15?",39\n何ですか,猫\n'),
        ("a.csv", "\ufeffanswer,question\r\n39,24 + 15?\r\n猫,何ですか\r\n"),
        ("a.tsv", "question\tanswer\r\n24 + 15?\t39\r\n何ですか\t猫\r\n"),
        ("a.tsv", "24 + 15?\t39\n何ですか\t猫\n"),
        ("a.txt", "24 + 15?||#### 39\n\n何ですか||#### 猫\n"),
    ],
)
def test_every_format_gives_the_same_examples(file, name, content):
    assert list(read_file(file(name, content))) == EXAMPLES


def test_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {"question": ["Q", "R"], "steps": [["a", "b"], None], "answer": [1.0, float("nan")]}
    parquet.write_table(pyarrow.table(columns), path)
    reader = read_file(path)
    assert next(reader) == Example("Q", ("a", "b"), "1")
    with pytest.raises(DataError, match=r"a\.parquet, row 2, column 'answer': .* found NaN"):
        next(reader)


def test_parquet_that_is_none(file):
    assert "expected Parquet, found" in error(file("a.parquet", "no parquet at all"))


def test_csv_cells_hold_newlines_and_quotes(file):
    path = file("a.csv", 'question,steps,answer\n"He said ""hi"", then?","one\ntwo",3\n')
    assert list(read_file(path)) == [Example('He said "hi", then?', ("one", "two"), "3")]


def test_tsv_quotes_are_plain_characters(file):
    path = file("a.tsv", 'question\tanswer\n"Who\t"me"\n')
    assert list(read_file(path)) == [Example('"Who', (), '"me"')]


def test_named_columns(file):
    path = file("a.csv", "ask,reply\nQ,1\n")
    assert list(read_file(path, FileColumns("ask", "steps", "reply"))) == [Example("Q", (), "1")]


def test_nan_matters_only_in_a_column_that_is_read(file):
    path = file("a.jsonl", '{"problem": "Q", "answer": "1", "llama8b_solve_rate": NaN}\n')
    assert list(read_file(path)) == [Example("Q", (), "1")]
    assert error(file("b.jsonl", '{"question": "Q", "answer": NaN}')).endswith("found NaN")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "txt"])
@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_an_empty_file_has_no_examples(file, suffix, content):
    assert list(read_file(file(f"a.{suffix}", content))) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            lines() + '{"question": "Q", "answer": null}',
            "line 3, column 'answer': expected text or a number, found null",
        ),
        ("a.jsonl", lines() + '{"question": "Q",\n', "line 3, column 18: invalid JSON"),
        ("a.jsonl", lines() + "[1]", "line 3: expected an object with named columns, found a list"),
        ("a.jsonl", lines().encode() + b'{"question": "\xff"}', "line 3, byte 15: expected UTF-8"),
        ("a.jsonl", "[" * 200_000, "line 1: JSON that cannot be read"),
        ("a.jsonl", '{"question": "Q", "answer": ' + "9" * 5000 + "}", "line 1: JSON that cannot be read"),
        ("a.json", '[{"question": "Q", "answer": "1"},\n{"question": "Q", "answer": ""}]', "row 2, column 'answer'"),
        ("a.json", '[\n{"question" "Q"}]', "line 2, column 13: invalid JSON"),
        ("a.json", lines() + "broken", "line 3, column 1: invalid JSON"),
        ("a.json", '"Q"', "expected a JSON array of rows, found one str"),
        ("a.csv", "question,answer\nQ,1,2\n", "line 2: expected 2 columns, found more"),
        ("a.csv", "question,answer\nQ\n", "line 2, column 'answer': expected text or a number, found nothing"),
        ("a.csv", 'question,answer\nQ,"1\n', "line 2: expected a table"),
        ("a.csv", "ask,reply\nQ,1\n", "line 2: expected columns 'question' and 'answer', found ask, reply"),
        ("a.txt", "Q||#### 1\nno bars #### 2\n", "line 2: expected question||steps #### answer, found 'no bars"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file, name, content, message):
    path = file(name, content)
    assert error(path).startswith(str(path))
    assert message in error(path)


def test_rows_before_a_bad_one_are_read_first(file):
    reader = read_file(file("a.jsonl", lines() + "broken"))
    assert [next(reader), next(reader)] == EXAMPLES
    with pytest.raises(DataError, match="line 3"):
        next(reader)


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", lines().encode() + b'{"question": "\xff"}\nbroken\n[1]\n' + lines().encode(), ["3", "4", "5"]),
        ("a.txt", b"24 + 15?||#### 39\n\xff\nbroken\n" + "何ですか||#### 猫\n".encode() * 3, ["2", "3"]),
        ("a.csv", "question,answer\n24 + 15?,39\nQ,1,2\nQ\n何ですか,猫\n何ですか,猫\n何ですか,猫\n", ["3", "4"]),
        ("a.json", json.dumps([ROWS[0], 5, {"question": "Q"}, *[ROWS[1]] * 3]), ["2", "3"]),
    ],
)
def test_malformed_rows_are_told_and_left_out_if_asked(file, name, content, places):
    bad = []
    examples = list(read_file(file(name, content), on_bad=bad.append))
    assert len(examples) == 4
    assert (examples[0], examples[-1]) == tuple(EXAMPLES)
    assert [str(error).split(name)[1].split(":")[0].split(", ")[1].split()[1] for error in bad] == places


def test_files_that_cannot_be(tmp_path, file):
    assert "there is no file" in error(tmp_path / "absent.jsonl")
    assert "is a folder" in error(tmp_path)
    assert "is of an unknown kind: name it with one of .jsonl" in error(file("a.xlsx", "x"))


@pytest.mark.parametrize(
    ("name", "rows", "language"),
    [
        ("gsm8k/train.jsonl", 7473, "en"),
        ("prosqa/valid.json", 300, "en"),
        ("prontoqa/gen5hop_train.json", 3400, "en"),
        ("mawps/singleop.jsonl", 562, "en"),
        ("big_math/format_sample_from_gsm8k.jsonl", 200, "en"),
        ("japanese/llm_japanese_format/aio.json", 4600, "ja"),
        ("japanese/llm_japanese_format/jcommonsenseqa.json", 3000, "ja"),
        ("japanese/aio_quiz/aio_01_dev1.tsv", 995, "ja"),
        ("japanese/jemhopqa/train_ver1.2.json", 1059, "ja"),
        ("japanese/niilc_qa/NIILC-ECQA2015_dev.xml", 800, "ja"),
    ],
)
def test_published_files_load(published, name, rows, language):
    examples = list(read_file(published(name)))
    assert len(examples) == rows
    # A quiz question in Latin letters alone is rare, but there is one.
    assert sum(example.language == language for example in examples) >= 0.995 * rows
    assert all(example.question and example.answer for example in examples)


def test_published_translations_hold_the_sentence(published):
    examples = list(read_file(published("japanese/llm_japanese_format/tatoeba_translation.json")))
    assert len(examples) == 4000
    assert all(len(example.question.split("\n")) >= 2 for example in examples)


def test_published_graph_steps_are_sentences(published):
    steps = [step for example in read_file(published("prosqa/valid.json"), None, "result") for step in example.steps]
    assert len(steps) >= 900
    assert all(step.endswith(".") for step in steps)


QA = {"question": "Where?", "answers": [{"text": "Rome", "answer_start": 0}, {"text": "Rome"}]}
HELD = {
    "squad": {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "Tom is in Rome.", "qas": [QA]}]}]},
    "big-bench hard": {"canary": "c", "examples": [{"input": "Tom is in Rome.\nWhere?", "target": "Rome"}]},
    "the hub's server": {"rows": [{"row_idx": 0, "row": {"question": "Tom is in Rome.\nWhere?", "answer": "Rome"}}]},
    "a row with a list": {"question": "Tom is in Rome.\nWhere?", "answer": "Rome", "data": [{"x": 1}]},
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", HELD)
def test_a_file_that_is_one_object_holds_its_rows(tmp_path, name, indent):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(HELD[name], indent=indent), encoding="utf-8")
    assert list(read_file(path)) == [Example("Tom is in Rome.\nWhere?", (), "Rome")]


@pytest.mark.parametrize("data", [{"data": []}, {"data": ["text"]}, {"examples": 3}, {"data": [{"paragraphs": 3}]}])
def test_an_object_that_holds_no_rows_is_named(tmp_path, data):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DataError, match="expected"):
        list(read_file(path))
