import json

import datasets
import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.rows import FileColumns
from latent_gemma.errors import ConfigError, DataError


@pytest.fixture
def ten(tmp_path):
    """A local file of ten rows with answers 0 to 9."""
    path = tmp_path / "ten.jsonl"
    path.write_text("".join(json.dumps({"question": "Q", "answer": n}) + "\n" for n in range(10)))
    return str(path)


def answers(source, **settings):
    return [int(example.answer) for example in load_examples(DataSpec(source, **settings))]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, list(range(10))),
        ({"split": "test"}, list(range(10))),
        ({"limit": 3}, [0, 1, 2]),
        ({"limit": 99}, list(range(10))),
        ({"holdout": 4}, [0, 1, 2, 3, 4, 5]),
        ({"holdout": 4, "split": "test"}, [6, 7, 8, 9]),
        ({"holdout": 4, "split": "test", "limit": 2}, [6, 7]),
        ({"holdout": 9}, [0]),
    ],
)
def test_holdout_divides_before_limit_cuts(ten, settings, expected):
    assert answers(ten, **settings) == expected


def test_shuffling_stays_on_its_side_of_the_holdout(ten):
    train = answers(ten, holdout=4, shuffle=True, seed=1)
    test = answers(ten, holdout=4, shuffle=True, seed=1, split="test")
    assert train != sorted(train) == [0, 1, 2, 3, 4, 5]
    assert sorted(test) == [6, 7, 8, 9]
    assert train[:2] == answers(ten, holdout=4, shuffle=True, seed=1, limit=2)
    assert train != answers(ten, holdout=4, shuffle=True, seed=2)


def test_rows_behind_the_limit_are_not_read(ten):
    with open(ten, "a") as file:
        file.write("broken")
    assert answers(ten, limit=10) == list(range(10))
    with pytest.raises(DataError, match="line 11"):
        answers(ten)


def test_columns_are_passed_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ask,reply\nQ,1\n")
    assert answers(str(path), columns=FileColumns("ask", "", "reply")) == [1]


@pytest.mark.parametrize("source", ["arithmetic", "arithmetic:ops=add,mul;digits=3;operations=2", "chains:length=3"])
def test_generators_give_as_many_as_asked_and_splits_apart(source):
    train = load_examples(DataSpec(source, limit=300))
    test = load_examples(DataSpec(source, "test", limit=50))
    assert (len(train), len(test)) == (300, 50)
    assert not {e.question for e in train} & {e.question for e in test}


def test_generator_settings_arrive():
    assert all(len(e.steps) == 3 for e in load_examples(DataSpec("chains:length=3", limit=9)))
    mixed = load_examples(DataSpec("chains:length=1..3;steps=equations", limit=60))
    assert {len(example.steps) for example in mixed} == {1, 2, 3}
    assert all("=" in step for example in mixed for step in example.steps)
    assert {c for e in load_examples(DataSpec("chains:ops=+;modulus=2", limit=50)) for c in e.answer} == {"0", "1"}
    rows = load_examples(DataSpec("arithmetic: ops = add, mul ; operations=2", limit=50))
    assert not any(sign in e.question for e in rows for sign in "-/")
    assert all(e.question.count("(") == 1 for e in rows)
    assert "remainder" in load_examples(DataSpec("arithmetic:ops=div;remainder=true", limit=1))[0].answer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "arithmetic"}, "has no end: say how many rows with --limit"),
        ({"source": "chains", "limit": 1, "split": "dev"}, "no split 'dev'"),
        ({"source": "chains", "limit": 1, "holdout": 5}, "--holdout with chains"),
        ({"source": "chains:size=3", "limit": 1}, "unknown setting 'size': known are length, modulus, ops"),
        ({"source": "arithmetic:length=3", "limit": 1}, "unknown setting 'length': known are ops, digits"),
        ({"source": "chains:length", "limit": 1}, "'length' is no setting"),
        ({"source": "chains:length=--5", "limit": 1}, "length=--5 is no whole number"),
        ({"source": "chains:length=²", "limit": 1}, "is no whole number"),
        ({"source": "chains:length=6..1", "limit": 1}, "chains of length 6 to 1"),
        ({"source": "chains:steps=words", "limit": 1}, "chains with steps 'words'"),
        ({"source": "arithmetic:ops=pow", "limit": 1}, "'pow' is unknown"),
        ({"source": "arithmetic:remainder=yes", "limit": 1}, "write remainder=true"),
        ({"source": "chains", "limit": 0}, "--limit 0"),
        ({"source": "chains", "holdout": -1}, "--holdout -1"),
        ({"source": "chains", "limit": 1, "steps_format": "prose"}, "'prose' is unknown: choose from natural"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError) as caught:
        load_examples(DataSpec(**settings))
    assert message in str(caught.value)


def test_a_local_file_has_two_splits(ten):
    with pytest.raises(ConfigError, match="no split 'validation': choose train or test"):
        answers(ten, split="validation")


def test_holding_everything_back_is_refused(ten):
    with pytest.raises(DataError, match="--holdout 10 keeps all 10 rows"):
        answers(ten, holdout=10)


@pytest.mark.parametrize("settings", [{}, {"holdout": 3}, {"shuffle": True}])
def test_an_empty_data_set_is_refused(tmp_path, settings):
    path = tmp_path / "a.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match=r"a\.jsonl holds no examples"):
        load_examples(DataSpec(str(path), **settings))


@pytest.mark.parametrize(
    "source", ["absent", "absent.jsonl", "folder/absent.jsonl", "./absent/file", "/absent", "~/absent.csv", "a/b/c"]
)
def test_a_path_that_leads_nowhere_never_asks_the_hub(monkeypatch, source):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match="there is no file"):
        load_examples(DataSpec(source))


@pytest.fixture
def hub(monkeypatch):
    """Stand in for the hub with five rows; the list of calls."""
    calls = []

    def load_dataset(*args, **kwargs):
        calls.append((*args, kwargs["split"]))
        return [{"question": "Q", "answer": str(n)} for n in range(5)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


@pytest.mark.parametrize(
    ("source", "settings", "call", "expected"),
    [
        ("openai/gsm8k", {}, ("openai/gsm8k", "main", "train"), [0, 1, 2, 3, 4]),
        ("openai/gsm8k:socratic", {"limit": 2}, ("openai/gsm8k", "socratic", "train"), [0, 1]),
        ("o/data-v1.5", {"split": "validation"}, ("o/data-v1.5", None, "validation"), [0, 1, 2, 3, 4]),
        ("o/n", {"holdout": 2}, ("o/n", None, "train"), [0, 1, 2]),
        ("o/n", {"holdout": 2, "split": "test"}, ("o/n", None, "train"), [3, 4]),
    ],
)
def test_hub_names(hub, source, settings, call, expected):
    assert answers(source, **settings) == expected
    assert hub == [call]


def test_a_local_file_shaped_like_a_hub_name_is_read_locally(tmp_path, monkeypatch):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "n.csv").write_text("question,answer\nQ,1\n")
    monkeypatch.chdir(tmp_path)
    assert load_examples(DataSpec("o/n.csv")) == [Example("Q", (), "1")]
