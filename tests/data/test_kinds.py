"""What a data set's answers are, by its task, its format, and else by its answers."""

import json

import pytest

from latent_gemma.data.kinds import COMPARED, answer_kind
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.task_list import TASKS

#: Rows as published -> kind.
FORMATS = {
    "MATH": ({"problem": "1/2?", "solution": r"\boxed{2}", "level": "1", "type": "a"}, "math"),
    "MATH-500": ({"problem": "1/2?", "solution": r"so \boxed{2}", "answer": "2", "unique_id": "x"}, "math"),
    "Big-Math": ({"problem": "1+1", "answer": "2", "source": "gsm8k", "domain": []}, "math"),
    "GSM8K": ({"question": "How many?", "answer": "1+1=<<1+1=2>>2\n#### 1,002"}, "number"),
    "COCONUT": ({"question": "q", "steps": ["<<1+1=2>>"], "answer": "2"}, "number"),
    "ProsQA": ({"question": "q", "steps": ["s"], "answer": "Tom is a lempus."}, "text"),
    "ProntoQA": ({"context": "c", "question": "q", "options": ["A) True", "B) False"], "answer": "A"}, "choice"),
    "SVAMP": ({"Body": "A.", "Question": "How many?", "Answer": 3.0, "Equation": "1+2"}, "number"),
    "PAL": ({"input": "q", "target": 2.0, "code": "x"}, "number"),
    "MGSM": ({"question": "q", "answer": "a", "answer_number": 2, "equation_solution": "x"}, "number"),
    "quiz": ({"original_question": "首都は？", "original_answer": "東京"}, "text"),
    "translation": (
        {"instruction": "次の入力を日本語に翻訳してください。", "input": "cat", "output": "猫"},
        "translation",
    ),
    "tagged": ({"prompt": "1+1", "completion": "<reasoning>a</reasoning><answer>2</answer>"}, "number"),
    "unknown": ({"question": "q", "answer": "blue"}, "text"),
    "latex": ({"question": "q", "answer": r"\frac{1}{2}"}, "math"),
    "path": ({"question": "q", "answer": "3:00 pm"}, "text"),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_published_format_tells_its_kind(name, suffix, tmp_path):
    row, kind = FORMATS[name]
    path = tmp_path / f"rows{suffix}"
    path.write_text(json.dumps(row if suffix == ".jsonl" else [row]))
    spec = DataSpec(str(path), "test")
    assert answer_kind(spec, load_examples(spec)) == kind


def test_one_answer_that_is_no_number_makes_it_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\na,1\nb,2\nc,three\n")
    spec = DataSpec(str(path), "test")
    assert answer_kind(spec, load_examples(spec)) == "text"


def test_text_lines_and_tables_are_read_too(tmp_path):
    (tmp_path / "rows.txt").write_text("1 + 1||<<1+1=2>> #### 2\n")
    (tmp_path / "rows.tsv").write_text("problem\tanswer\n1+1\t2\n")
    for name, kind in (("rows.txt", "number"), ("rows.tsv", "math")):
        spec = DataSpec(str(tmp_path / name), "test")
        assert answer_kind(spec, load_examples(spec)) == kind


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.is_generated], ids=lambda task: task.name)
def test_generated_data_is_what_its_task_says(task):
    spec = DataSpec(task.source, "test", limit=3)
    assert answer_kind(spec, load_examples(spec)) == task.answer_kind


def test_a_hub_name_is_what_its_task_says():
    examples = load_examples(DataSpec("chains", "test", limit=2))
    for source, kind in (("openai/gsm8k:main", "number"), ("HuggingFaceH4/MATH-500", "math"), ("a/b", "number")):
        assert answer_kind(DataSpec(source), examples) == kind


def test_every_kind_is_told_in_words():
    assert {task.answer_kind for task in TASKS.values()} <= COMPARED.keys()
