"""Data sets that people bring from the hub, each by a row written here after its description."""

import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.rows import parse_row, row_format
from latent_gemma.data.worked import worked
from latent_gemma.errors import DataError


def read(row):
    return parse_row(row, None, "natural", "data, row 3")


def said(*turns):
    return [{"role": role, "content": text} for role, text in turns]


ASKED, ANSWER = ("user", "What is 3+4?"), ("assistant", "<think>3 and 4\nis 7.</think>\n7")
THOUGHT = Example("What is 3+4?", ("3 and 4", "is 7."), "7")
PARTS = [{"role": "user", "content": [{"type": "text", "text": "What is 3+4?"}]}, *said(ANSWER)]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": said(ASKED, ANSWER)},
        {"messages": said(("system", "Be brief."), ASKED, ANSWER), "source": "x"},
        {"messages": PARTS},
        {"conversations": [{"from": "human", "value": ASKED[1]}, {"from": "gpt", "value": ANSWER[1]}]},
        {
            "system": "s",
            "conversations": [
                {"from": "user", "value": ASKED[1]},
                {
                    "from": "assistant",
                    "value": "<|begin_of_thought|>\n3 and 4\nis 7.\n<|end_of_thought|>\n\n<|begin_of_solution|>\n7\n"
                    "<|end_of_solution|>",
                },
            ],
        },
        {"prompt": said(ASKED), "completion": said(ANSWER)},
        {"prompt": said(("system", "s"), ASKED), "chosen": said(ANSWER), "rejected": said(("assistant", "8"))},
        {"prompt": said(ASKED), "chosen": said(ASKED, ANSWER), "rejected": said(ASKED, ("assistant", "8"))},
        {"prompt": "What is 3+4?", "response": ANSWER[1]},
        {"prompt": "What is 3+4?", "answer": "<think>3 and 4\nis 7.</think><answer>7</answer>"},
        {"question": "What is 3+4?", "cot": "3 and 4\nis 7.", "answer": 7},
        {"question": "What is 3+4?", "rationale": ["3 and 4", "is 7."], "answer": "7"},
        {"question": "What is 3+4?", "steps": [], "reasoning": {}, "explanation": "3 and 4\nis 7.", "answer": "7"},
    ],
)
def test_thinking_and_answer_of_a_message_are_told_apart(row):
    assert read(row) == THOUGHT


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": said(("system", "Use tags."), ASKED), "answer": "7"},
        {"prompt": said(ASKED), "reward_model": {"ground_truth": "7", "style": "rule"}, "data_source": "x"},
        {"prompt": said(ASKED), "ground_truth": 7},
        {"prompt": "What is 3+4?", "answer": "7"},
        {"input": "What is 3+4?", "output": "7"},
        {"instruction": "What is 3+4?", "response": "7"},
        {"question": "What is 3+4?", "solution": "7"},
    ],
)
def test_answers_alone(row):
    assert read(row) == Example("What is 3+4?", (), "7")


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Q", "response": "3+4=7.\nThe answer is: 7", "type": "GSM_Rephrased", "original_question": "Q"},
        {"question": "Q", "answer": "3+4=7. The answer is 7."},
    ],
)
def test_the_number_of_a_last_sentence_is_the_answer(row):
    assert read(row) == Example("Q", ("3+4=7.",), "7")


@pytest.mark.parametrize(("form", "steps"), [("natural", ("<<2*3=6>>", "<<6+1=7>>")), ("result", ("6", "7"))])
def test_codis_gsm8k_aug_has_its_expressions_in_one_line(form, steps):
    row = {"question": "Q", "cot": "<<2*3=6>> <<6+1=7>>", "answer": "7"}
    assert parse_row(row, None, form, "data, row 3") == Example("Q", steps, "7")


def test_openmathinstruct_has_the_answer_beside_its_solution():
    row = {"problem": "Q", "generated_solution": "Add.\nSo \\boxed{7}.", "expected_answer": "7", "problem_source": "x"}
    assert read(row) == Example("Q", ("Add.", "So \\boxed{7}."), "7")
    row["question"] = row.pop("problem")
    assert read(row).answer == "7"


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "The answer is 7.",
        "The answer is blowing in the wind.",
        "It is said that the answer is 42. Nobody knows why.",
        r"\boxed{7}",
        r"x = \boxed{7}",
        "<think>cut off",
        "<|begin_of_thought|>cut off",
        "<think>nothing said</think>",
    ],
)
def test_what_is_no_more_than_an_answer_stays_as_it_is(text):
    assert worked(text) == ([], text)


@pytest.mark.parametrize(
    ("text", "steps", "answer"),
    [
        (r"We have $3+4=7$. So \boxed{7}.", [r"We have $3+4=7$. So \boxed{7}."], "7"),
        (r"<think>hm \boxed{6}? no</think>So \boxed{7}.", [r"hm \boxed{6}? no"], "7"),
        ("<think>a\n\nb</think>\n\nIn Rome.", ["a", "b"], "In Rome."),
        ("<think>a</think>The answer is 7.", ["a"], "7"),
        ("Tom has 3. Therefore, the final answer is **1,200**", ["Tom has 3."], "1,200"),
    ],
)
def test_working(text, steps, answer):
    assert worked(text) == (steps, answer)


TREE = Example("Which is big?\nA) ant\nB) whale", (), "whale", accepted=("B",))
LISTED = {"text": ["ant", "whale"], "label": ["A", "B"]}


@pytest.mark.parametrize(
    ("row", "expected", "published"),
    [
        ({"id": "x", "question": "Which is big?", "choices": LISTED, "answerKey": "B"}, TREE, "ARC"),
        ({"question_stem": "Which is big?", "choices": LISTED, "answerKey": "B"}, TREE, "OpenBookQA"),
        (
            {
                "question": {
                    "stem": "Which is big?",
                    "choices": [{"text": "ant", "label": "A"}, {"text": "whale", "label": "B"}],
                },
                "answerKey": "B",
            },
            TREE,
            "ARC",
        ),
        (
            {"question": "Q", "choices": {"text": ["ant", "whale"], "label": ["1", "2"]}, "answerKey": "2"},
            Example("Q\n1) ant\n2) whale", (), "whale", accepted=("2",)),
            "ARC",
        ),
        (
            {"question": "Q", "options": ["A)5", "B)7"], "rationale": "3+4\n= 7", "correct": "B"},
            Example("Q\nA) 5\nB) 7", ("3+4", "= 7"), "7", accepted=("B",)),
            "AQuA",
        ),
        (
            {
                "Problem": "q ?",
                "Rationale": "3 + 4",
                "options": "a ) 5 , b ) 1,700 , c ) none",
                "correct": "b",
                "annotated_formula": "add(3,4)",
            },
            Example("q ?\nA) 5\nB) 1,700\nC) none", ("3 + 4",), "1,700", accepted=("B",)),
            "MathQA",
        ),
        (
            {"question": "寝る所は?", **{f"choice{n}": text for n, text in enumerate("床海空山川")}, "label": 0},
            Example("寝る所は?\nA) 床\nB) 海\nC) 空\nD) 山\nE) 川", (), "床", "ja", ("A",)),
            "JCommonsenseQA",
        ),
        (
            {"goal": "Open a jar", "sol1": "eat it", "sol2": "turn it", "label": 1},
            Example("Open a jar\nA) eat it\nB) turn it", (), "turn it", accepted=("B",)),
            "PIQA",
        ),
        (
            {"context": "Tom fell.", "question": "And?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
            Example("Tom fell.\nAnd?\nA) a\nB) b\nC) c", (), "c", accepted=("C",)),
            "Social IQa",
        ),
        (
            {"sentence": "It fits since _ is big.", "option1": "box", "option2": "cup", "answer": "1"},
            Example("It fits since _ is big.\nA) box\nB) cup", (), "box", accepted=("A",)),
            "WinoGrande",
        ),
        (
            {"question": "is it blue", "passage": "The sky is blue.", "answer": True},
            Example("The sky is blue.\nis it blue", (), "yes", accepted=("true",)),
            "BoolQ",
        ),
        (
            {"qid": "1", "question": "Can cats fly?", "answer": False, "facts": ["Cats have no wings."]},
            Example("Can cats fly?", ("Cats have no wings.",), "no", accepted=("false",)),
            "StrategyQA",
        ),
        (
            {"passage": "Tom had 7.", "question": "How many?", "answers_spans": {"spans": ["7", "7"], "types": ["n"]}},
            Example("Tom had 7.\nHow many?", (), "7"),
            "DROP",
        ),
        (
            {"context": "太郎は東京に住む。", "question": "どこ?", "answers": {"text": ["東京"], "answer_start": [3]}},
            Example("太郎は東京に住む。\nどこ?", (), "東京", "ja"),
            "question and answers",
        ),
        (
            {"article": "Tom is in Rome.", "question": "Where?", "options": ["Paris", "Rome"], "answer": "B"},
            Example("Tom is in Rome.\nWhere?\nA) Paris\nB) Rome", (), "Rome", accepted=("B",)),
            "RACE",
        ),
        (
            {"context": "Tom is in Rome.", "question": "Where?", "answers": ["Paris", "Rome"], "label": 1},
            Example("Tom is in Rome.\nWhere?\nA) Paris\nB) Rome", (), "Rome", accepted=("B",)),
            "ReClor",
        ),
        (
            {"question": "Where?", "options": {"A": "Paris", "B": "Rome"}, "answer": "Rome", "answer_idx": "B"},
            Example("Where?\nA) Paris\nB) Rome", (), "Rome", accepted=("B",)),
            "MedQA",
        ),
        (
            {"passage": None, "question": "Q", "options": ["(A)$5$", "(B)$7$"], "label": "B", "other": None},
            Example("Q\nA) $5$\nB) $7$", (), "$7$", accepted=("B",)),
            "AGIEval",
        ),
        (
            {"passage": None, "question": "Q", "options": None, "label": None, "answer": "2", "other": {}},
            Example("Q", (), "2"),
            "AGIEval",
        ),
        (
            {"context": None, "question": "Q", "solution": ["Add.\nSo 7.", "Or so."], "final_answer": ["7"]},
            Example("Q", ("Add.", "So 7."), "7"),
            "OlympiadBench",
        ),
        (
            {"query": "Q", "response": "3+4=<<3+4=7>>7\n#### 7"},
            Example("Q", ("3+4=7",), "7"),
            "MGSM",
        ),
        (
            {"problem": "q ?", "rationale": "3 + 4", "options": "a ) 5 , b ) 7", "correct": "b"},
            Example("q ?\nA) 5\nB) 7", ("3 + 4",), "7", accepted=("B",)),
            "MathQA",
        ),
        (
            {"problem": "q ?", "rationale": "3 + 4", "options": "['a ) 5 cm ^ 2', 'b ) b ) 7 .']", "correct": "b"},
            Example("q ?\nA) 5 cm ^ 2\nB) 7 .", ("3 + 4",), "7 .", accepted=("B",)),
            "MathQA",
        ),
        (
            {"problem": "Q", "generated_solution": "<think>3+4</think>\nSo \\boxed{7}.", "expected_answer": "7"},
            Example("Q", ("3+4",), "7"),
            "OpenMathInstruct",
        ),
        (
            {"question": "Where?", "choices": ["Paris", "Rome"], "answer": 1, "label": None},
            Example("Where?\nA) Paris\nB) Rome", (), "Rome", accepted=("B",)),
            "MMLU",
        ),
        (
            {"question": "Q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2, "exp": "E"},
            Example("Q\nA) a\nB) b\nC) c\nD) d", (), "c", accepted=("C",)),
            "MedMCQA",
        ),
        (
            {"passage": ["One.", "Two."], "question": "Where?", "answer": "Rome"},
            Example("One.\nTwo.\nWhere?", (), "Rome"),
            "BoolQ",
        ),
        (
            {"url": "u", "question": "Where?", "answers": ["Rome", "Roma"]},
            Example("Where?", (), "Rome", accepted=("Roma",)),
            "question and answers",
        ),
        (
            {"question": "Where?", "answer": ["Rome", "Roma"]},
            Example("Where?", (), "Rome", accepted=("Roma",)),
            "question and answer",
        ),
        (
            {"question": "Where?", "answer": {"value": "Rome", "aliases": ["Roma", "Rome"], "type": "x"}},
            Example("Where?", (), "Rome", accepted=("Roma",)),
            "question and answer",
        ),
        (
            {"instruction": "Where is Tom?", "context": "Tom is in Rome.", "response": "Rome", "category": "qa"},
            Example("Tom is in Rome.\nWhere is Tom?", (), "Rome"),
            "instruction and response",
        ),
        (
            {"instruction": "Where is Rome?", "context": "", "response": "Italy", "category": "qa"},
            Example("Where is Rome?", (), "Italy"),
            "instruction and response",
        ),
        (
            {"translation": {"en": "Good morning.", "ja": "おはよう。"}},
            Example("次の入力を日本語に翻訳してください。\nGood morning.", (), "おはよう。", "ja"),
            "OPUS",
        ),
    ],
)
def test_rows_of_the_hub(row, expected, published):
    assert read(row) == expected
    assert row_format(row) == published


RIGHT_FIRST = [
    ("BIG-bench", lambda n: {"input": f"Q{n}", "target_scores": {"right": 1, "b": 0, "c": 0, "d": 0}}),
    (
        "GPQA",
        lambda n: {
            "Question": f"Q{n}", "Correct Answer": "right", **{f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}
        },
    ),
    (
        "SciQ",
        lambda n: {
            "question": f"Q{n}", "correct_answer": "right", **{f"distractor{i}": f"w{i}" for i in (1, 2, 3)},
            "support": "Since it is so.",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("published", "row"), RIGHT_FIRST)
def test_an_option_that_is_published_first_is_not_asked_first(published, row):
    examples = [read(row(number)) for number in range(200)]
    assert examples == [read(row(number)) for number in range(200)], "the same each time"
    assert row_format(row(0)) == published
    letters = [example.accepted[0] for example in examples]
    assert all(30 < letters.count(letter) < 70 for letter in "ABCD")
    for example in examples:
        assert example.answer == "right"
        assert f"\n{example.accepted[0]}) right" in example.question
        assert example.steps == (("Since it is so.",) if published == "SciQ" else ())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": said(ASKED, ANSWER, ASKED, ANSWER)},
            "expected one question and its answer, found user, assistant",
        ),
        ({"messages": said(ANSWER, ASKED)}, "found assistant, user"),
        ({"messages": said(ASKED)}, "found user"),
        ({"messages": said(ASKED, ("tool", "7"))}, "found user, tool"),
        ({"messages": []}, "column 'messages': expected one question and its answer, found none"),
        ({"messages": ["hello"]}, "column 'messages': expected messages with a role, found text in it"),
        ({"messages": [{"role": "user", "content": None}]}, "column 'content': expected text or a number, found null"),
        ({"messages": [{"content": "x"}]}, "found no such column"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "expected parts of text, found others"),
        ({"prompt": said(ASKED), "completion": "7"}, "column 'completion': expected a list of messages, found text"),
        ({"question": "Q", "choices": LISTED, "answerKey": "C"}, "expected the label of a choice, found 'C'"),
        ({"question": "Q", "choices": ["a", "b"], "answerKey": "A"}, "column 'choices': expected labels and texts"),
        ({"question": "Q", "options": ["A)5"], "rationale": "R", "correct": "E"}, "one of the options' letters"),
        ({"goal": "G", "sol1": "a", "sol2": "b", "label": -1}, "expected the number of an option, found '-1'"),
        ({"question": "Q", "passage": "P", "answer": None}, "column 'answer': expected a list of texts, found null"),
        ({"question": "Q", "context": "C", "answers": {"text": []}}, "expected at least one answer, found nothing"),
        ({"question": "Q", "context": {"title": ["t"]}, "answer": "A"}, "without it, give --question-column question"),
        ({"translation": {"en": "a", "de": "b"}}, "the second en or ja, found en, de"),
        ({"translation": "a"}, "found text"),
        ({"input": "Q", "target_scores": {"a": 0, "b": 0}}, "expected options of which one is best"),
        ({"input": "Q", "target_scores": "a"}, "expected options of which one is best"),
        ({"input": "Q", "target_scores": {f"{n}": n for n in range(11)}}, "expected at most 10 options, found 11"),
    ],
)
def test_what_cannot_be_read_is_named(row, message):
    with pytest.raises(DataError) as caught:
        read(row)
    assert message in str(caught.value)
    assert str(caught.value).startswith("data, row 3")
    assert "\n" not in str(caught.value)
