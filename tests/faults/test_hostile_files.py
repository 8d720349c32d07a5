"""Files that are not what they say: rows or one clear line that names the file, never another exception, never code."""

import json
import os
import pickle
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_gemma.cli import main
from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.local import SUFFIXES, read_file
from latent_gemma.errors import DataError
from latent_gemma.evaluation.results import Chart, EvalReport, Grid, Point, ThoughtTrace
from latent_gemma.inspection.write import write_report
from tests.inspection.conftest import make_row, make_step

ROW = {"question": "何 + 15?", "steps": ["24 + 15 = <<24+15=39>>39"], "answer": "39"}
SOUND = {
    ".jsonl": json.dumps(ROW) + "\n" + json.dumps(ROW) + "\n",
    ".json": json.dumps([ROW, ROW], indent=1),
    ".csv": 'question,answer,steps\n"何 + 15?",39,a\n"何 + 15?",39,b\n',
    ".tsv": "question\tanswer\n何 + 15?\t39\n何 + 15?\t39\n",
    ".xml": "<a><Problem><Body>b</Body><Question>q</Question><Answer>39 (x)</Answer></Problem></a>",
    ".txt": "何 + 15?||<<24+15=39>> #### 39\n何 + 15?||<<24+15=39>> #### 39\n",
}
#: What a hostile file may hold anywhere: other encodings, ends of lines, numbers that are none, markup, depth.
CHUNKS = [
    b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00", b"\r", b"\r\n", b"\n", b"\x1a", b"\xed\xa0\x80", b"\xe2\x80\xa8",
    b'"', b"'", b"\\", b"\\ud800", b"{", b"}", b"[", b"[" * 5000, b"]", b",", b":", b"NaN", b"Infinity", b"-", b"1e999",
    b"9" * 5000, b"null", b"true", b"{}", b"[[]]", b'"answer": 1, ', b"<!DOCTYPE a>", b"&lt;", b"&#0;", b"&x;", b"<",
    b">", b'<?xml version="1.0" encoding="utf-7"?>', b"||", b"####", b"<answer>", b"</answer>", b"<<", b">>", b"\t",
    b"=", b"A" * 140_000,
]  # fmt: skip
chunks = st.sampled_from(CHUNKS) | st.binary(max_size=4)
TWICE = "<a><Problem><Body>b</Body><Question>q</Question><Answer>1 (x)</Answer><Answer>2 (x)</Answer></Problem></a>"


def read(path):
    """Examples, or the one line that says what is wrong; anything else fails."""
    try:
        examples = list(read_file(path))
    except DataError as error:
        said = str(error)
        return said if str(path) in said and "\n" not in said else pytest.fail(said)
    assert all(isinstance(example, Example) and example.question and example.answer for example in examples)
    return examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def parquet(folder):
    pyarrow, module = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    module.write_table(pyarrow.table({"question": ["Q"] * 3, "answer": ["1"] * 3}), folder / "sound.parquet")
    return (folder / "sound.parquet").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_damage_gives_rows_or_one_line(suffix, folder, parquet):
    sound = SOUND[suffix].encode() if suffix in SOUND else parquet
    path = folder / f"damaged{suffix}"
    outcomes = {"rows": 0, "refused": 0}

    @given(
        st.lists(st.tuples(st.floats(0, 1), chunks, st.integers(0, 3)), max_size=4),
        st.sampled_from(["utf-8", "utf-16", "utf-32", "shift_jis"]),
        st.floats(0, 1),
    )  # fmt: skip
    @settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    def check(damages, encoding, end):
        content = sound
        if suffix in SOUND and encoding != "utf-8":
            content = content.decode().encode(encoding)
        for where, chunk, dropped in damages:
            at = int(where * len(content))
            content = content[:at] + chunk + content[at + dropped :]
        path.write_bytes(content[: int(end * len(content))] if end < 0.5 else content)
        started = time.perf_counter()
        outcomes["refused" if isinstance(read(path), str) else "rows"] += 1
        assert time.perf_counter() - started < 5

    check()
    assert min(outcomes.values()) >= 3, outcomes
    assert sum(outcomes.values()) >= 150


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"question": "Q", "answer": "1", "answer": "2"}', "'answer' stands twice"),
        ("a.json", '[{"question": "Q", "answer": "1", "question": "R"}]', "'question' stands twice"),
        ("a.csv", "question,answer,answer\nQ,1,2\n", "'answer' stands twice"),
        ("a.tsv", "question\tanswer\tanswer\nQ\t1\t2\n", "'answer' stands twice"),
        ("a.xml", TWICE, "'Answer' stands twice"),
        ("a.xml", '<?xml version="1.0" encoding="shift_jis"?><a/>', "expected XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a document type is not read"),
        ("a.xml", "<a>" * 100_000, "expected XML"),
        ("a.csv", "question,answer\n" + "Q" * 200_000 + ",1\n", "expected a table"),
        ("a.jsonl", '{"a":' * 100_000, "JSON that cannot be read"),
        ("a.jsonl", '{"question": ["Q"], "answer": {"a": 1}}', "column 'question'"),
        ("a.jsonl", "\ufeff\x00", "invalid JSON"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert said in read(path)


def test_a_line_of_ten_megabytes_is_a_row_like_others(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW | {"question": "Q" * 10_000_000}) + "\n" + json.dumps(ROW), encoding="utf-8")
    started = time.perf_counter()
    examples = read(path)
    assert [len(example.question) for example in examples] == [10_000_000, 7]
    assert time.perf_counter() - started < 10


def test_null_bytes_and_line_ends_inside_of_text_stay(tmp_path):
    question = "a\x00b\u2028c\x85d\re"
    row = json.dumps({"question": question, "answer": "1"}, ensure_ascii=False)
    for suffix, content in ((".jsonl", row), (".json", f"[{row}]")):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content.encode())
        assert read(path) == [Example(question, (), "1")]


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_no_pickle_in_a_data_file_is_read(tmp_path, parquet):
    mark = tmp_path / "it ran"
    bomb = pickle.dumps(Bomb(str(mark)))
    for suffix in (*SUFFIXES, ".pkl", ".pickle", ".pt", ".npy", ".arrow"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(bomb)
        assert isinstance(read(path), str), suffix
    # Arrow can hold a column type in a pickle: CVE-2023-47248
    import pyarrow
    import pyarrow.parquet

    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": bomb}
    field = pyarrow.field("question", pyarrow.string(), metadata=metadata)
    table = pyarrow.table([["Q"], ["1"]], schema=pyarrow.schema([field, ("answer", pyarrow.string())]))
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet") == [Example("Q", (), "1")]
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists(), "it works where pickles are read"


def test_a_data_set_with_code_of_its_own_is_not_run(tmp_path, monkeypatch):
    """A folder shaped like a hub name: its script, its YAML and a switch in it are not even looked at."""
    home = tmp_path / "owner" / "name"
    home.mkdir(parents=True)
    mark = tmp_path / "it ran"
    (home / "name.py").write_text(f"open({str(mark)!r}, 'w')")
    (home / "README.md").write_text("---\na: &a [x]\nb: [*a, *a]\ntrust_remote_code: true\n---\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is a folder"):
        load_examples(DataSpec("owner/name"))
    import datasets

    asked = {}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: asked.update(options) or [])
    with pytest.raises(DataError, match="holds no examples"):
        load_examples(DataSpec("another/name"))
    assert not asked.get("trust_remote_code")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../climbs", "/climbs", "a/../../climbs", "gsm8k/../../climbs", ".", "", "\x00"])
def test_a_task_cannot_climb_out_of_its_run_folder(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    run = tmp_path / "runs" / "deep"
    assert main(["eval", "tiny", "--tasks", f"{name}=rows.jsonl", "--out", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) in (["rows.jsonl"], ["rows.jsonl", "runs"])


def test_labels_and_questions_are_no_paths(tmp_path):
    """What a report is named after stands in its files, never in their names."""
    evil = "../../climbs\x00/etc/passwd"
    trace = ThoughtTrace(evil, evil, evil, evil, False, (make_step(1, (evil,), (0.5,)),))
    curves = {evil: [{"step": 1, "value": 1.0}, {"step": 2, "value": 2.0}]}
    grid, chart = Grid(evil, (evil,), ((evil,),), evil), Chart("own", evil, "x", "y", {evil: (Point(1.0, 0.5),)})
    report = EvalReport(evil, evil, (make_row(evil, 0, 10),), (trace,), {evil: evil}, curves, (grid,), (chart,))
    folder = tmp_path / "a" / "b" / "run"
    write_report(report, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert not any("climbs" in path.name for path in tmp_path.rglob("*"))
