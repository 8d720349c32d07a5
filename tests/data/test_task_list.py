import json

import datasets
import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.mgsm import MGSM_LANGUAGES
from latent_gemma.data.task_list import TASKS, find_task, load_task
from latent_gemma.errors import ConfigError, DataError

ASKED = "gsm8k math math-500 mgsm-ja mgsm-en msvamp-ja msvamp-en svamp asdiv multiarith gsm-hard big-math prosqa"
ASKED += " prontoqa multiplication arithmetic chains jquiz ja-en en-ja jemhopqa niilc"
GENERATED = {"prosqa", "multiplication", "arithmetic", "chains"}
TO_ENGLISH, TO_JAPANESE = "次の入力を英語に翻訳してください。", "次の入力を日本語に翻訳してください。"


@pytest.fixture
def rows(tmp_path):
    """A local file of these rows."""

    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def ten(rows):
    return rows([{"question": f"Q{n}", "answer": f"#### {n}"} for n in range(10)])


def test_every_task_that_was_asked_for_is_there():
    assert set(ASKED.split()) <= set(TASKS)
    assert {f"mgsm-{language}" for language in MGSM_LANGUAGES} <= set(TASKS)
    assert {name for name, task in TASKS.items() if task.is_generated} == GENERATED


def test_tasks_are_complete():
    for name, task in TASKS.items():
        assert name == task.name
        assert task.licence
        assert task.fields
        assert task.leaks
        assert task.max_new_tokens > 0
        assert task.answer_language in (task.language, task.target)


def test_leaks_are_named_on_both_sides():
    assert "MGSM" in TASKS["gsm8k"].leaks
    assert "GSM8K" in TASKS["mgsm-ja"].leaks
    assert "MATH-500" in TASKS["math"].leaks
    assert "MATH" in TASKS["math-500"].leaks
    assert "GSM8K" in TASKS["gsm-hard"].leaks
    assert "GSM8K" in TASKS["big-math"].leaks
    assert "ASDiv" in TASKS["svamp"].leaks
    assert "SVAMP" in TASKS["asdiv"].leaks


def test_an_unknown_task_names_those_there_are():
    with pytest.raises(ConfigError, match=r"task 'gsm9k' is unknown: choose from gsm8k, math, "):
        find_task("gsm9k")


def test_a_limit_takes_the_same_sample_in_file_order(ten):
    def answers(limit, seed=0):
        return [int(example.answer) for example in load_task("gsm8k", ten, limit, seed)]

    assert answers(None) == answers(10) == answers(99) == list(range(10))
    assert answers(4) == answers(4) == sorted(answers(4))
    assert len({tuple(answers(4, seed)) for seed in range(5)}) > 1
    with pytest.raises(ConfigError, match="--limit 0 leaves no rows"):
        answers(0)


def test_malformed_rows_are_told_and_left_out_if_asked(rows):
    path = rows([{"question": "Q", "answer": "1"}, {"question": "Q"}, {"question": "Q", "answer": "2"}])
    with pytest.raises(DataError, match="line 2"):
        load_task("gsm8k", path)
    bad = []
    assert [example.answer for example in load_task("gsm8k", path, on_bad=bad.append)] == ["1", "2"]
    assert [str(error).count("line 2") for error in bad] == [1]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_tasks(name):
    examples = load_task(name, limit=20, seed=3)
    assert len(examples) == 20
    assert all(example.steps for example in examples)
    assert examples == load_task(name, limit=20, seed=3) != load_task(name, limit=20, seed=4)
    with pytest.raises(ConfigError, match="has no end: say how many rows with --limit"):
        load_task(name)


def test_a_generated_task_reads_published_files_too(rows):
    path = rows([{"question": "Is Ann a bip or bop?", "steps": ["Ann is a bop."], "answer": "Ann is a bop."}])
    assert load_task("prosqa", path) == [Example("Is Ann a bip or bop?", ("Ann is a bop.",), "Ann is a bop.")]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.split is None])
def test_a_task_without_a_hub_copy_asks_for_a_file(name):
    with pytest.raises(DataError, match=f"task {name} cannot be had by name: give a file of "):
        load_task(name)


def test_hub_tasks_ask_for_their_configuration_and_split(monkeypatch):
    calls = []

    def load_dataset(*args, **kwargs):
        calls.append((*args, kwargs["split"]))
        return [{"m_query": "Q", "response": "1"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_task("msvamp-ja") == [Example("Q", (), "1", "ja")]
    load_task("math-500")
    assert calls == [("Mathoctopus/MSVAMP", "ja", "test"), ("HuggingFaceH4/MATH-500", None, "test")]


def test_translations_are_taken_one_way(rows):
    path = rows(
        [
            {"instruction": TO_ENGLISH, "input": "猫。", "output": "A cat."},
            {"instruction": TO_JAPANESE, "input": "A dog.", "output": "犬。"},
            {"instruction": "日本語へ訳すと？", "input": "into English", "output": "英語に"},
            {"instruction": "何の動物？", "input": "英語に強い猫", "output": "猫"},
        ]
    )
    assert [(e.answer, e.language) for e in load_task("ja-en", path)] == [("A cat.", "ja")]
    assert [(e.answer, e.language) for e in load_task("en-ja", path)] == [("犬。", "en"), ("英語に", "en")]
    few = rows([{"instruction": TO_ENGLISH, "input": "猫。", "output": "A cat."}]
               + [{"instruction": "何？", "input": "", "output": "猫"}] * 2, "few.jsonl")  # fmt: skip
    with pytest.raises(DataError, match="expected translations as answers, found 1 in 3"):
        load_task("ja-en", few)
    with pytest.raises(DataError, match=r"quiz\.jsonl holds no rows of task ja-en: give a file that does"):
        load_task("ja-en", rows([{"instruction": "何？", "input": "", "output": "猫"}], "quiz.jsonl"))


def test_the_language_of_an_mgsm_file_is_checked(tmp_path):
    path = tmp_path / "mgsm_de.tsv"
    path.write_text("Wie viele?\t3\n")
    assert load_task("mgsm-de", path) == [Example("Wie viele?", (), "3", "de")]
    english = path.rename(tmp_path / "mgsm_en.tsv")
    with pytest.raises(DataError, match=r"mgsm_en\.tsv is in 'en', task mgsm-de in 'de': take mgsm-en"):
        load_task("mgsm-de", english)
    with pytest.raises(DataError, match=r"holds rows of MGSM, task gsm8k reads GSM8K or PAL: it is a file of mgsm-en$"):
        load_task("gsm8k", english)
    english.rename(path)
    with pytest.raises(DataError, match=r"mgsm_de\.tsv is in 'de', task mgsm-ja in 'ja': take mgsm-de"):
        load_task("mgsm-ja", path)


SVAMP = {"Body": "B.", "Question": "Q?", "Equation": "( 9.0 - 4.0 )", "Answer": 5.0}
FILES = {
    "GSM8K": {"question": "Q", "answer": "9-4=5\n#### 5"},
    "MATH": {"problem": "Q", "solution": r"\boxed{5}", "level": "Level 1", "type": "Algebra"},
    "Big-Math": {"problem": "Q", "answer": "5"},
    "SVAMP": SVAMP,
    "ASDiv": {"Body": "B.", "Question": "Q?", "Answer": "5 (nuts)", "Formula": "9-4=5"},
    "MultiArith": {"sQuestion": "Q", "lEquations": ["X=9-4"], "lSolutions": [5.0]},
    "PAL": {"input": "Q", "target": 5.0},
    "GSM-Hard": {"input": "Q", "code": "def solution(): ..", "target": 5.0},
    "ProsQA": {"question": "Q", "answer": "Ann is a bip.", "steps": [], "edges": [[0, 1]]},
    "MGSM": {"question": "Q", "answer": None, "answer_number": 5},
    "MSVAMP": {"m_query": "Q", "response": 5.0},
    "ProntoQA": {"question": "F.", "query": "True or false: P.", "chain_of_thought": ["S."], "answer": "True"},
    "MMLU": {"question": "Q", "choices": ["a", "b"], "answer": 1},
    "llm-japanese-dataset": {"instruction": "何？", "input": "", "output": "猫"},
    "AI王 quiz": {"original_question": "何？", "original_answer": "猫", "original_additional_info": ""},
    "JEMHopQA": {"question": "何？", "answer": "猫", "derivations": []},
}


@pytest.mark.parametrize("published", FILES)
def test_a_file_of_another_task_is_refused_with_the_name_of_its_own(rows, published):
    path, others = rows([FILES[published]] * 3), [name for name, task in TASKS.items() if published in task.formats]
    named = ", ".join(others[:3]) + (", .." if len(others) > 3 else "")
    remedy = f"it is a file of {named}" if others else "give a file of the task"
    for name in set(TASKS) - set(others):
        with pytest.raises(DataError) as caught:
            load_task(name, path)
        assert str(caught.value).startswith(f"{path} holds rows of {published}, task {name} reads ")
        assert str(caught.value).endswith(f": {remedy}")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        *(("gsm8k", published) for published in ("GSM8K", "PAL")),
        *(("math-500", published) for published in ("MATH", "Big-Math")),
        *(("svamp", published) for published in ("SVAMP", "PAL")),
        *(("asdiv", published) for published in ("ASDiv", "PAL")),
        *(("multiarith", published) for published in ("MultiArith", "PAL")),
        *(("jquiz", published) for published in ("llm-japanese-dataset", "AI王 quiz")),
        *(("gsm-hard", published) for published in ("GSM-Hard", "PAL")),
        ("prosqa", "ProsQA"),
        ("big-math", "Big-Math"),
        ("mgsm-en", "MGSM"),
        ("mgsm-de", "MGSM"),
        ("msvamp-en", "MSVAMP"),
        ("prontoqa", "ProntoQA"),
        ("jemhopqa", "JEMHopQA"),
    ],
)
def test_a_task_takes_its_own_files(rows, name, published):
    assert len(load_task(name, rows([FILES[published]] * 3))) == 3


def test_lines_of_text_say_whose_they_are(tmp_path):
    path = tmp_path / "valid.txt"
    path.write_text("5 6 * 7 4||5 5 + 0 6 #### 5 0 1 3\n")
    assert load_task("multiplication", path)[0].answer == "5 0 1 3"
    with pytest.raises(DataError, match="holds rows of digit-wise multiplication, task gsm8k reads GSM8K or PAL"):
        load_task("gsm8k", path)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"question": "何個？", "answer": "5"}, "is in 'ja', task gsm8k in 'en': take mgsm-ja"),
        ("svamp", {"question": "多少个？", "answer": "5"}, "is in 'zh', task svamp in 'en': take mgsm-zh"),
        ("svamp", {"question": "Wie viele?", "answer": "5", "language": "de"}, "is in 'de', task svamp in 'en'"),
        ("mgsm-ja", {"question": "How many?", "answer": "5"}, "is in 'en', task mgsm-ja in 'ja': take mgsm-en"),
        ("msvamp-ja", {"m_query": "Q", "response": 5}, "is in 'en', task msvamp-ja in 'ja': take msvamp-en"),
        ("jquiz", {"question": "Who?", "answer": "A cat"}, "is in 'en', task jquiz in 'ja'"),
        ("gsm8k", {"question": "Who?", "answer": "A cat"}, "expected numbers as answers, found 0 in 3"),
        ("prosqa", {"question": "How many?", "answer": "5"}, "expected no numbers as answers, found 3 in 3"),
        (
            "jquiz",
            {"instruction": TO_ENGLISH, "input": "猫。", "output": "A cat."},
            "expected no translations as answers, found 3 in 3",
        ),
    ],
)
def test_a_file_without_a_format_is_told_by_its_language_and_answers(rows, name, row, message):
    with pytest.raises(DataError, match=rf"rows\.jsonl.*{message}"):
        load_task(name, rows([row] * 3))


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a\.jsonl holds no rows of task svamp"):
        load_task("svamp", path)


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("gsm8k", "gsm8k/train.jsonl", 7473),
        ("gsm8k", "gsm8k_expr/valid.txt", 500),
        ("multiarith", "mawps/singleop.jsonl", 562),
        ("big-math", "big_math/format_sample_from_gsm8k.jsonl", 200),
        ("prosqa", "prosqa/valid.json", 300),
        ("prontoqa", "prontoqa/gen5hop_valid.json", 200),
        ("multiplication", "multiplication/4_by_4_mult_valid.txt", 1000),
        ("jquiz", "japanese/llm_japanese_format/aio.json", 4600),
        ("jquiz", "japanese/aio_quiz/aio_01_unused.tsv", 608),
        ("ja-en", "japanese/llm_japanese_format/tatoeba_translation.json", 2000),
        ("en-ja", "japanese/llm_japanese_format/tatoeba_translation.json", 2000),
        ("jemhopqa", "japanese/jemhopqa/train_ver1.2.json", 1059),
        ("niilc", "japanese/niilc_qa/NIILC-ECQA2015_dev.xml", 800),
    ],
)
def test_published_files(published, name, file, rows):
    examples = load_task(name, published(file))
    assert len(examples) == rows
    assert {example.language for example in examples} == {TASKS[name].language}


def test_the_quiz_part_is_the_quiz(published):
    """The two published forms of the same questions read alike."""
    rows = load_task("jquiz", published("japanese/llm_japanese_format/aio.json"))
    tables = ("dev1", "dev2", "test_lb", "test_lc", "unused")
    quiz = [e for name in tables for e in load_task("jquiz", published(f"japanese/aio_quiz/aio_01_{name}.tsv"))]
    assert {(e.question, e.answer) for e in rows} == {(e.question, e.answer) for e in quiz}
