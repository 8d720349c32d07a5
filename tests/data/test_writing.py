import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_gemma.data.example import Example
from latent_gemma.data.local import read_file
from latent_gemma.data.writing import write_jsonl
from latent_gemma.errors import DataError

line = st.text("abc 東、\"\\'\u2028éX", min_size=1, max_size=12).map(str.strip).filter(bool)
examples = st.lists(
    st.builds(Example, question=line.map("q{}".format), steps=st.lists(line, max_size=3).map(tuple), answer=line),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("style", ["examples", "prompt_completion"])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=examples)
def test_what_is_written_is_read_back(tmp_path, style, rows):
    path = tmp_path / "a.jsonl"
    write_jsonl(rows, path, style)
    back = list(read_file(path))
    assert [(e.question, e.steps, e.answer) for e in back] == [(e.question, e.steps, e.answer) for e in rows]


def test_the_two_styles(tmp_path):
    example = Example("Solve 24 + 15", ("a", "b"), "39")
    for style in ("examples", "prompt_completion"):
        write_jsonl([example], tmp_path / "new" / f"{style}.jsonl", style)
    rows = [json.loads((tmp_path / "new" / f"{s}.jsonl").read_text()) for s in ("examples", "prompt_completion")]
    assert rows == [
        {"question": "Solve 24 + 15", "steps": ["a", "b"], "answer": "39", "language": "en"},
        {"prompt": "Solve 24 + 15", "completion": "<reasoning>a\nb</reasoning><answer>39</answer>"},
    ]


def test_accepted_answers_and_plain_japanese_survive(tmp_path):
    path, example = tmp_path / "a.jsonl", Example("何？", (), "猫", "ja", ("ねこ",))
    write_jsonl([example], path)
    assert list(read_file(path)) == [example]
    assert "ねこ" in path.read_text(encoding="utf-8")


def test_the_language_of_a_data_set_of_one_survives(tmp_path):
    path, example = tmp_path / "a.jsonl", Example("Wie viele?", (), "5", "de")
    write_jsonl([example], path)
    assert list(read_file(path)) == [example]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("old")

    def broken():
        yield Example("Q", (), "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a.jsonl"):
        with pytest.raises(DataError, match="cannot be written"):
            write_jsonl([Example("Q", (), "1")], path)
