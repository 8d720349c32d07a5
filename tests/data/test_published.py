"""Published formats, each by rows written here after its description."""

import json

import pytest

from latent_gemma.data.example import Example
from latent_gemma.data.local import read_file
from latent_gemma.data.rows import parse_row
from latent_gemma.errors import DataError


def read(row, steps_format="natural"):
    return parse_row(row, None, steps_format, "data, row 3")


def error(row):
    with pytest.raises(DataError) as caught:
        read(row)
    assert str(caught.value).startswith("data, row 3")
    assert "\n" not in str(caught.value)
    return str(caught.value)


SVAMP = {"ID": "x-1", "Body": "Ann has 9 nuts.", "Question": "How many are left after 4?", "Answer": 5.0}
SVAMP |= {"Equation": "( 9.0 - 4.0 )", "Type": "Subtraction"}
MULTIARITH = {"iIndex": 1, "sQuestion": "Q", "lEquations": ["X=(7.5*(8.0-2.0))"], "lSolutions": [45.0]}


@pytest.mark.parametrize(
    ("steps_format", "step"), [("natural", "(9-4)=5"), ("expression", "<<(9-4)=5>>"), ("result", "5")]
)
def test_svamp(steps_format, step):
    assert read(SVAMP, steps_format) == Example("Ann has 9 nuts. How many are left after 4?", (step,), "5")


NUMBERED = {"Question": "ann has number0 nuts and eats number1 . how many are left ?", "Numbers": "9 4.0"}
NUMBERED |= {"Equation": "- number0 number1", "Answer": "5.0", "Ques": "how many are left ?"}
NUMBERED |= {"Body": "ann has number0 nuts and eats number1 ."}


@pytest.mark.parametrize(
    ("steps_format", "step"), [("natural", "(9-4)=5"), ("expression", "<<(9-4)=5>>"), ("result", "5")]
)
def test_numbers_are_put_back_into_the_csv_files_of_svamp(steps_format, step):
    assert read(NUMBERED, steps_format) == Example("ann has 9 nuts and eats 4 . how many are left ?", (step,), "5")


@pytest.mark.parametrize(
    ("equation", "step"),
    [
        ("* - number0 number1 2.0", "((9-4)*2)=5"),
        ("+ number0 / number1 4.0", "(9+(4/4))=5"),
        ("number1", "4=5"),
    ],
)
def test_signs_stand_first_in_them(equation, step):
    assert read(NUMBERED | {"Equation": equation}).steps == (step,)


def test_ten_numbers_and_more_keep_apart():
    row = NUMBERED | {"Question": "number1 and number10 ?", "Numbers": " ".join(map(str, range(20, 31)))}
    assert read(row).question == "21 and 30 ?"


@pytest.mark.parametrize("response", [8, 8.0, "8.0", "8"])
def test_msvamp(response):
    row = {"query": "how many apples ?", "equation": "+ number0 number1", "m_query": "りんごは何個？"}
    assert read(row | {"response": response}) == Example("りんごは何個？", (), "8", "ja")
    assert read({"query": "りんごは何個？", "response": response}) == Example("りんごは何個？", (), "8", "ja")


TEMPLATE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request in "
)
TEMPLATE += "Japanese. Please answer in Japanese.\n\n### Instruction:\n{}\n\n### Response:"


def test_mgsm8k_instruct():
    row = {"prompt": TEMPLATE.format("9個から4個食べると？"), "chosen": "9-4=<<9-4=5>>5個。\n#### 5", "rejected": ""}
    assert read(row) == Example("9個から4個食べると？", ("9-4=5個。",), "5", "ja")


def test_preference_rows_teach_what_was_chosen():
    chosen = "<reasoning>9-4 is 5</reasoning><answer>5</answer>"
    row = {"prompt": "9-4?", "chosen": chosen, "rejected": chosen.replace("is 5", "is 6")}
    assert read(row) == Example("9-4?", ("9-4 is 5",), "5")


@pytest.mark.parametrize(
    ("equation", "step"),
    [("X=(7.5*(8.0-2.0))", "(7.5*(8-2))=45"), ("8.0*5.0 + 5.0 = x", "8*5+5=45"), ("40.0+5.0=45.0", "40+5=45")],
)
def test_multiarith(equation, step):
    assert read(MULTIARITH | {"lEquations": [equation]}) == Example("Q", (step,), "45")


@pytest.mark.parametrize(
    ("answer", "bare", "accepted"),
    [
        ("9 (apples)", "9", ("9 apples",)),
        ("9", "9", ()),
        ("2 (weeks); 3 (days)", "2; 3", ("2 weeks; 3 days",)),
        ("Tom", "Tom", ()),
        ("(none)", "(none)", ("none",)),
    ],
)
@pytest.mark.parametrize("spell", [str, str.lower])
def test_asdiv(answer, bare, accepted, spell):
    row = {"Body": "Ann has 7 apples and gets 2.", "Question": "How many now?", "Answer": answer, "Formula": "7+2=9"}
    example = read({spell(name): value for name, value in row.items()})
    assert example == Example("Ann has 7 apples and gets 2. How many now?", ("7+2=9",), bare, accepted=accepted)


def test_mgsm_rows_of_the_hub():
    row = {"question": "問題", "answer": None, "answer_number": 1200, "equation_solution": None}
    assert read(row) == Example("問題", (), "1200", "ja")
    assert read(row | {"answer": "9 - 4\n= 5", "answer_number": "1,200"}).steps == ("9 - 4", "= 5")


MATH = {"problem": "Find x.", "level": "Level 2", "type": "Algebra"}


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"So $\boxed{5}$.", "5"),
        (r"First \boxed{4}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\left\{ a \right.}", r"\left\{ a \right."),
        (r"\boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"$\fbox{B}$", "B"),
        (r"$\boxed 7$", "7"),
        (r"\boxed 12.", "12"),
    ],
)
def test_math_without_answers_takes_the_last_box(solution, answer):
    assert read(MATH | {"solution": solution}) == Example("Find x.", (solution,), answer)
    assert read(MATH | {"solution": solution, "answer": None}).answer == answer


def test_math_with_answers():
    row = MATH | {"solution": "One.\nTwo: \\boxed{5}.", "answer": "6", "subject": "Algebra", "unique_id": "a/1"}
    assert read(row) == Example("Find x.", ("One.", "Two: \\boxed{5}."), "6")


def test_math_with_answers_needs_no_worked_solution():
    assert read(MATH | {"solution": "", "answer": "6"}) == Example("Find x.", (), "6")


def test_big_math():
    row = {"problem": "Find x.", "answer": "6", "source": "s", "domain": ["A -> B"], "llama8b_solve_rate": None}
    assert read(row) == Example("Find x.", (), "6")


def test_jemhopqa():
    row = {"qid": "1", "question": "どちらが高い？", "answer": "乙山", "derivations": [["甲山", "高さ", ["10", "11"]]]}
    assert read(row) == Example("どちらが高い？", ("甲山の高さは10、11。",), "乙山", "ja")
    assert read(row | {"answer": "YES"}).answers == ("YES", "はい")
    assert read(row | {"answer": "NO"}).answers == ("NO", "いいえ")


PRONTOQA = {"context": "Ann is a bip. Bips are red.", "question": "True or false? Ann is red."}
PRONTOQA |= {"options": ["A) True", "B) False"], "answer": "A", "explanation": ["Ann is a bip.", "Bips are red."]}


def test_prontoqa_with_lettered_options():
    question, steps = "Ann is a bip. Bips are red. True or false? Ann is red.", ("Ann is a bip.", "Bips are red.")
    assert read(PRONTOQA) == Example(question, steps, "True", accepted=("A",))
    assert read(PRONTOQA | {"answer": "B"}).answer == "False"


def test_options_that_a_question_does_not_name_stand_below_it():
    row = PRONTOQA | {"question": "Which is true?", "options": ["A) Ann is red.", "B) Ann is blue."]}
    question = "Ann is a bip. Bips are red. Which is true?\nA) Ann is red.\nB) Ann is blue."
    assert read(row) == Example(question, ("Ann is a bip.", "Bips are red."), "Ann is red.", accepted=("A",))


@pytest.mark.parametrize("answer", [1, "1", "B"])
def test_mmlu(answer):
    row = {"question": "Which is even?", "subject": "s", "choices": ["3", "4"], "answer": answer}
    expected = Example("Which is even?\nA) 3\nB) 4", (), "4", accepted=("B",))
    assert read(row) == expected
    row["options"] = row.pop("choices")
    assert read(row) == expected
    assert read(row | {"options": ["A. 3", "B. 4"]}) == expected


@pytest.mark.parametrize(
    ("info", "accepted"),
    [
        ("", ()),
        (None, ()),
        ("別解：ねこ", ("ねこ",)),
        ("※「ねこ」「キャット」も可", ("ねこ", "キャット")),
        ("ねこ、いも でも正解", ("ねこ", "いも")),
        ("いも", ("いも",)),
        ("猫", ()),
    ],
)
def test_quiz(info, accepted):
    row = {"original_question": "何？", "original_answer": "猫", "original_additional_info": info}
    assert read(row) == Example("何？", (), "猫", "ja", accepted)


@pytest.mark.parametrize(
    ("gold", "answer", "accepted"),
    [
        ("長野（信州も正解）", "長野", ("信州", "長野（信州も正解）")),
        ("金閣 (寺院)", "金閣", ("金閣 (寺院)",)),
        ("『雪国』", "雪国", ("『雪国』",)),
        ("川端康成（かわばた・やすなり）", "川端康成", ("かわばた・やすなり", "川端康成（かわばた・やすなり）")),
        ("テニス[tennis]", "テニス", ("tennis", "テニス[tennis]")),
        ("モーニング娘。", "モーニング娘。", ()),
    ],
)
def test_the_plain_answer_of_a_quiz_is_learnt_and_its_other_forms_accepted(gold, answer, accepted):
    quiz = {"original_question": "何？", "original_answer": gold, "original_additional_info": ""}
    rows = [quiz, {"instruction": "何？", "input": "", "output": gold}, {"text": "何？", "answers": [gold]}]
    rows.append({"question": "何？", "answer": gold, "derivations": []})
    assert [read(row) for row in rows] == [Example("何？", (), answer, "ja", accepted)] * 4


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "次の入力を日本語に翻訳してください。？", "input": "a cat (big)", "output": "猫（大きい）"},
        {"instruction": "「cat (big)」を日本語に訳すと？", "input": "", "output": "猫（大きい）"},
        {"instruction": "猫（ねこ）について説明してください。", "input": "", "output": "動物（哺乳類）"},
        {"instruction": "猫は何？", "input": "", "output": "猫（ねこ）は動物です。"},
        {"instruction": "What is 猫?", "input": "", "output": "a cat (an animal)"},
        {"question": "f(3)は？", "answer": "(3, 100)"},
    ],
)
def test_brackets_elsewhere_are_part_of_the_answer(row):
    example = read(row)
    assert example.answers == (row.get("output") or row["answer"],)


def test_quiz_answers_of_other_releases():
    row = {"original_question": "何？", "original_answer": "猫;;ネコ", "question": "何?", "answers": ["猫", "ねこ"]}
    assert read(row).answers == ("猫", "ネコ", "ねこ")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (SVAMP | {"Answer": None}, "column 'Answer': expected text or a number, found null"),
        (SVAMP | {"Body": ""}, "column 'Body': expected text or a number, found nothing"),
        ({"m_query": "Q", "response": []}, "column 'response': expected text or a number, found a list"),
        ({"query": "Q", "response": "So .. The answer is: 5"}, "column 'response': expected a number, found 'So .."),
        ({"prompt": TEMPLATE.format("Q"), "chosen": "No mark."}, "column 'chosen': expected #### answer at its end"),
        (NUMBERED | {"Numbers": "9"}, "column 'Numbers': expected a value of number1, found 1 numbers"),
        (NUMBERED | {"Equation": "number0 - number1"}, "column 'Equation': expected signs before their numbers"),
        (NUMBERED | {"Equation": "- number0"}, "column 'Equation': expected signs before their numbers"),
        (
            NUMBERED | {"Question": NUMBERED["Body"]},
            "column 'Question': expected a question, found the story alone: take the folder without _without_questions",
        ),
        ({"question": "Q", "choices": ["a", "b"], "answer": 2}, "expected the number or letter of a choice, found '2'"),
        ({"question": "Q", "query": "True or false: R.", "chain_of_thought": ["S"]}, "column 'answer': expected"),
        ({f"c{n}": 1 for n in range(99)}, "found c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, ..: name them"),
        (MULTIARITH | {"lSolutions": []}, "column 'lSolutions': expected at least one answer, found nothing"),
        (MULTIARITH | {"lEquations": 3}, "column 'lEquations': expected a list of texts or a text, found a number"),
        ({"Body": "B", "Question": "Q", "Answer": ""}, "column 'Answer'"),
        ({"question": "Q", "answer": "s", "answer_number": None}, "column 'answer_number'"),
        (MATH | {"solution": "No box."}, r"column 'solution': expected an answer in \boxed{..}, found none"),
        (MATH | {"solution": r"\boxed{5"}, "found none"),
        (MATH | {"solution": r"\boxed{}"}, "found none"),
        ({"question": "Q", "answer": "A", "derivations": {}}, "column 'derivations': expected a list of [subject"),
        ({"question": "Q", "answer": "A", "derivations": [["a", "b"]]}, "found another shape in it"),
        ({"question": "Q", "answer": "A", "derivations": [["a", "b", [None]]]}, "found a part that is no text"),
        (PRONTOQA | {"answer": "C"}, "column 'answer': expected one of the options' letters, found 'C'"),
        (PRONTOQA | {"options": None}, "column 'answer': expected one of the options' letters, found 'A'"),
        (PRONTOQA | {"context": ""}, "column 'context': expected text"),
        ({"original_question": "Q", "original_answer": None}, "column 'original_answer'"),
    ],
)
def test_a_malformed_row_is_named(row, message):
    assert message in error(row)


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("name", ["SVAMP.json", "MultiArith.json"])
def test_arrays_of_word_problems(file, name):
    row = SVAMP if name == "SVAMP.json" else MULTIARITH
    assert list(read_file(file(name, json.dumps([row, row])))) == [read(row)] * 2


def test_json_lines_called_json(file):
    rows = [{"m_query": f"Q{n}", "response": str(n)} for n in range(3)]
    path = file("test_English.json", "\n".join(map(json.dumps, rows)))
    assert [example.answer for example in read_file(path)] == ["0", "1", "2"]


def test_one_problem_a_file(file):
    row = MATH | {"solution": r"\boxed{5}"}
    assert list(read_file(file("1.json", json.dumps(row, indent=4)))) == [read(row)]


@pytest.mark.parametrize(("language", "question"), [("ja", "何個？"), ("en", "How many?"), ("de", "Wie viele?")])
def test_mgsm_files_say_their_language(file, language, question):
    path = file(f"mgsm_{language}.tsv", f"{question}\t1,080\n{question}\t-3.5\n")
    assert list(read_file(path)) == [Example(question, (), a, language) for a in ("1080", "-3.5")]


@pytest.mark.parametrize(
    ("name", "row", "language"),
    [
        ("mgsm_Japanese.json", {"query": "何個？", "response": "1,080"}, "ja"),
        ("mgsm_German.json", {"query": "Wie viele?", "response": "1,080"}, "de"),
        ("mgsm_ja.jsonl", {"question": "何個？", "answer": "1,080"}, "ja"),
        ("test_Chinese.json", {"query": "how many ?", "response": "1080.0", "m_query": "多少个？"}, "zh"),
        ("test_Thai.json", {"query": "how many ?", "response": "1080.0", "m_query": "กี่"}, "th"),
    ],
)
def test_mathoctopus_files_say_their_language(file, name, row, language):
    question = row.get("m_query") or row.get("question") or row["query"]
    path = file(name, "\n".join([json.dumps(row)] * 2))
    assert list(read_file(path)) == [Example(question, (), "1080", language)] * 2


QUIZ = "qid\tcompetition\toriginal_question\toriginal_answer\toriginal_additional_info\n"
QUIZ += "1\tX\t何？\t猫（ねこ）\t「キャット」も○\n"


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_the_quiz_is_published_as_a_table_called_txt(file, start):
    expected = Example("何？", (), "猫", "ja", ("ねこ", "猫（ねこ）", "キャット"))
    assert list(read_file(file("abc_01.txt", start + QUIZ))) == [expected]
    assert list(read_file(file("abc_01.tsv", start + QUIZ))) == [expected]


def test_json_lines_called_txt(file):
    path = file("train.txt", json.dumps({"question": "Q", "answer": "1+1=2\n#### 2"}))
    assert list(read_file(path)) == [Example("Q", ("1+1=2",), "2")]


def test_csv_files_of_svamp(file):
    rows = "Question,Numbers,Equation,Answer,group_nums,Body,Ques\nhas number0 and number1 . how many ?,7 2,"
    rows += '+ number0 number1,9.0,"[0, 1]",has number0 and number1 .,how many ?\n'
    assert list(read_file(file("dev.csv", rows))) == [Example("has 7 and 2 . how many ?", ("(7+2)=9",), "9")]


def test_prontoqa_as_its_generator_writes_it(file):
    example = {"question": "Each bip is red. Ann is a bip.", "query": "True or false: Ann is red.", "answer": "True"}
    example["chain_of_thought"] = ["Ann is a bip.", "Ann is red."]
    content = {f"example{n}": {"in_context_example0": {}, "test_example": example} for n in (1, 2)}
    question = "Each bip is red. Ann is a bip. True or false: Ann is red."
    expected = Example(question, ("Ann is a bip.", "Ann is red."), "True")
    for indent in (1, None):
        assert list(read_file(file("5hop.json", json.dumps(content, indent=indent)))) == [expected] * 2


def test_a_pointer_in_the_place_of_a_file_is_told(file):
    path = file("train.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(DataError, match=r"train\.txt is a pointer of Git LFS, not the file itself: fetch that with"):
        list(read_file(path))


@pytest.mark.parametrize("line", ["Q\teight", "Q\t1\nQ\tacht", "Q\t1\nQ"])
def test_an_mgsm_answer_is_a_number(file, line):
    with pytest.raises(DataError, match=r"mgsm_de\.tsv, line \d, column 'answer': expected .* number, found"):
        list(read_file(file("mgsm_de.tsv", line)))


ASDIV = """<?xml version="1.0" encoding="UTF-8"?>
<Corpus><ProblemSet>
  <Problem ID="1" Grade="1">
    <Body>Ann &amp; Bo have 7 apples.</Body><Question>How many halves?</Question>
    <Solution-Type>Multiplication</Solution-Type><Answer>14 (halves)</Answer><Formula>7*2=14</Formula>
  </Problem>
  <Problem ID="2" Grade="1"><Body>B.</Body><Question>Q?</Question><Answer></Answer></Problem>
</ProblemSet></Corpus>
"""
NIILC = """<?xml version='1.0' encoding="UTF-8"?>
<questions>
<question id="1"><text>何と鳴く？</text><answers><answer>にゃあ</answer><answer/><answer>ニャー</answer></answers>
<meta><A.3></A.3></meta></question>
</questions>
"""


def test_asdiv_xml(file):
    reader = read_file(file("ASDiv.xml", ASDIV))
    question = "Ann & Bo have 7 apples. How many halves?"
    assert next(reader) == Example(question, ("7*2=14",), "14", accepted=("14 halves",))
    with pytest.raises(DataError, match=r"ASDiv\.xml, line 7, column 'Answer': expected .* found nothing"):
        next(reader)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_niilc_xml(file, encoding):
    path = file("niilc.xml", NIILC.replace("UTF-8", encoding.removesuffix("-sig")).encode(encoding))
    assert list(read_file(path)) == [Example("何と鳴く？", (), "にゃあ", "ja", ("ニャー",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "line 1: a document type is not read: take <!DOCTYPE> out"),
        ("<a>&undefined;</a>", "expected XML, undefined entity"),
        ("<a><b></a>", "expected XML, mismatched tag"),
        ("plain text", "expected XML, syntax error"),
        (b"<a>\xff</a>", "expected XML, not well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "expected XML, unknown encoding"),
        ("<a><b/></a>", "expected <Problem> or <question> elements, found none"),
        ("<a><question>bare</question></a>", "line 1: expected columns 'question' and 'answer', found none"),
        ("<a><question><text>Q</text><answers/></question></a>", "column 'answers': expected at least one answer"),
    ],
)
def test_xml_that_cannot_be_read(file, content, message):
    with pytest.raises(DataError) as caught:
        list(read_file(file("a.xml", content)))
    assert message in str(caught.value)


def test_nested_entities_are_never_expanded(file):
    levels = "".join(f'<!ENTITY e{n} "{"&e" + str(n - 1) + ";" if n else "ha"}">' for n in range(40))
    with pytest.raises(DataError, match="a document type is not read"):
        list(read_file(file("bomb.xml", f"<!DOCTYPE a [{levels}]><a>&e39;</a>")))


def test_an_empty_xml_file_has_no_examples(file):
    assert list(read_file(file("a.xml", "\ufeff\n"))) == []


def test_published_niilc_answers(published):
    examples = list(read_file(published("japanese/niilc_qa/NIILC-ECQA2015_dev.xml")))
    assert sum(bool(example.accepted) for example in examples) > 100
    assert all(answer.strip() for example in examples for answer in example.answers)


def test_published_derivations_become_steps(published):
    examples = list(read_file(published("japanese/jemhopqa/train_ver1.2.json")))
    assert all(2 <= len(example.steps) <= 4 for example in examples)
    assert {example.answers for example in examples if example.answer == "YES"} == {("YES", "はい")}
