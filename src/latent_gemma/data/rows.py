"""From one row of a file or a hub data set to an `Example`, whatever its columns are called."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from latent_gemma.data.asdiv import asdiv_row
from latent_gemma.data.chat import chat_row, is_chat
from latent_gemma.data.competition import math_row, olympiad_row
from latent_gemma.data.example import Example
from latent_gemma.data.gsm8k import StepsFormat, annotations_alone, format_steps, parse_gsm8k
from latent_gemma.data.japanese import instruction_gold, jemhopqa_row, niilc_row, quiz_row
from latent_gemma.data.mathoctopus import instruct_row, mgsm_json_row, msvamp_row
from latent_gemma.data.mgsm import MGSM_LANGUAGES, mgsm_row
from latent_gemma.data.multiarith import multiarith_row
from latent_gemma.data.multiple_choice import (
    choices_row,
    labelled_row,
    lettered_row,
    option_columns_row,
    rationale_row,
    right_first_row,
)
from latent_gemma.data.prontoqa import prontoqa_row
from latent_gemma.data.reading import is_reading, reading_row, translation_row, yes_no_row
from latent_gemma.data.svamp import numbered_row, svamp_row
from latent_gemma.data.values import found, list_of, names_of, text_of
from latent_gemma.data.worked import worked
from latent_gemma.errors import DataError
from latent_gemma.text.language import detect_language

#: Where a row stands ("data.jsonl, line 3"), and the row or what is wrong with it.
Row = tuple[str, Any]
_TAGGED = re.compile(r"\s*(?:<(reasoning|think)>(.*?)</\1>)?\s*<answer>(.*?)</answer>\s*", re.DOTALL)


@dataclass(frozen=True)
class FileColumns:
    """Names of the columns.

    Args:
        question: holds the question.
        steps: holds the steps: a list, or text with one step a line; may be missing from the data.
        answer: holds the answer.
        accepted: holds a list of further answers that count as correct; may be missing from the data.
    """

    question: str = "question"
    steps: str = "steps"
    answer: str = "answer"
    accepted: str = "accepted"


#: What others call the steps.
_WORKINGS = ("rationale", "reasoning", "chain_of_thought", "cot", "explanation")
_INSTRUCTION = FileColumns(question="instruction", answer="output")
#: Published formats that only name their columns in their own way, recognised by question and answer.
_KNOWN = (
    ("question and answer", FileColumns()),  # COCONUT, what this package writes; with #### GSM8K
    ("Big-Math", FileColumns(question="problem")),
    ("MultiArith", FileColumns(answer="final_ans")),  # the hub's
    ("llm-japanese-dataset", _INSTRUCTION),
    ("PAL", FileColumns(question="input", answer="target")),
    ("prompt and completion", FileColumns(question="prompt", answer="completion")),
    ("prompt and answer", FileColumns(question="prompt")),
    ("prompt and response", FileColumns(question="prompt", answer="response")),
    ("instruction and response", FileColumns(question="instruction", answer="response")),
    ("question and response", FileColumns(question="question", answer="response")),
    ("question and solution", FileColumns(answer="solution")),
    ("input and output", FileColumns(question="input", answer="output")),
    ("OpenMathInstruct", FileColumns("problem", "generated_solution", "expected_answer")),
    ("OpenMathInstruct", FileColumns("question", "generated_solution", "expected_answer")),
    ("MetaMathQA", FileColumns(question="query", answer="response")),
)
_NUMBERED = frozenset({"Question", "Numbers", "Equation", "Answer"})
#: Published formats that need more, recognised by the columns they alone have, and read into those of this package.
_PUBLISHED: tuple[tuple[str, frozenset[str], Callable[[Mapping[str, Any], str], dict[str, Any]]], ...] = (
    ("JEMHopQA", frozenset({"question", "answer", "derivations"}), jemhopqa_row),
    ("ProntoQA", frozenset({"context", "question", "options", "answer", "explanation"}), lettered_row),
    ("Logic-LM", frozenset({"context", "question", "options", "answer"}), lettered_row),
    ("ProntoQA", frozenset({"question", "query", "chain_of_thought"}), prontoqa_row),
    ("MMLU", frozenset({"question", "choices", "answer"}), choices_row),
    ("RACE", frozenset({"article", "question", "options", "answer"}), choices_row),
    ("MedQA", frozenset({"question", "options", "answer_idx"}), choices_row),
    ("MedMCQA", frozenset({"question", "opa", "opd", "cop"}), option_columns_row),
    ("AGIEval", frozenset({"question", "options", "label"}), choices_row),
    ("MMLU-Pro", frozenset({"question", "options", "answer"}), choices_row),
    ("ARC", frozenset({"question", "answerKey"}), labelled_row),
    ("OpenBookQA", frozenset({"question_stem", "answerKey"}), labelled_row),
    ("AQuA", frozenset({"question", "options", "rationale", "correct"}), rationale_row),
    ("MathQA", frozenset({"problem", "rationale", "options", "correct"}), rationale_row),
    ("MathQA", frozenset({"Problem", "Rationale", "options", "correct"}), rationale_row),
    ("JCommonsenseQA", frozenset({"question", "choice0", "choice4", "label"}), option_columns_row),
    ("PIQA", frozenset({"goal", "sol1", "sol2", "label"}), option_columns_row),
    ("Social IQa", frozenset({"context", "question", "answerA", "answerC", "label"}), option_columns_row),
    ("WinoGrande", frozenset({"sentence", "option1", "option2", "answer"}), option_columns_row),
    ("BIG-bench", frozenset({"input", "target_scores"}), right_first_row),
    ("GPQA", frozenset({"Question", "Correct Answer", "Incorrect Answer 1"}), right_first_row),
    ("SciQ", frozenset({"question", "correct_answer", "distractor1"}), right_first_row),
    ("BoolQ", frozenset({"question", "passage", "answer"}), yes_no_row),
    ("StrategyQA", frozenset({"question", "answer", "facts"}), yes_no_row),
    ("DROP", frozenset({"question", "passage", "answers_spans"}), reading_row),
    ("OPUS", frozenset({"translation"}), translation_row),
    ("MGSM", frozenset({"question", "answer", "answer_number"}), mgsm_row),
    ("AI王 quiz", frozenset({"original_question", "original_answer"}), quiz_row),
    ("NIILC", frozenset({"text", "answers"}), niilc_row),
    ("ReClor", frozenset({"question", "answers", "label"}), choices_row),
    ("question and answers", frozenset({"question", "answers"}), reading_row),
    # SVAMP's repository has the three with numbers taken out; columns tell whose problems they are.
    ("SVAMP", _NUMBERED | {"Variation Type"}, numbered_row),
    ("ASDiv", _NUMBERED | {"Grade"}, numbered_row),
    ("MultiArith", _NUMBERED, numbered_row),
    ("SVAMP", frozenset({"Body", "Question", "Answer", "Equation"}), svamp_row),
    ("ASDiv", frozenset({"Body", "Question", "Answer"}), asdiv_row),
    ("ASDiv", frozenset({"body", "question", "answer"}), asdiv_row),
    ("MSVAMP", frozenset({"m_query", "response"}), msvamp_row),
    ("MetaMathQA", frozenset({"query", "response", "original_question"}), lambda row, where: dict(row)),
    ("MGSM", frozenset({"query", "response"}), mgsm_json_row),
    ("MultiArith", frozenset({"sQuestion", "lSolutions"}), multiarith_row),
    ("MATH", frozenset({"problem", "solution"}), math_row),
    ("OlympiadBench", frozenset({"question", "solution", "final_answer"}), olympiad_row),
    ("prompt and chosen", frozenset({"prompt", "chosen"}), instruct_row),
    # Read as they are; what they have besides tells whose they are.
    ("ProsQA", frozenset({"question", "answer", "steps", "edges"}), lambda row, where: dict(row)),
    ("GSM-Hard", frozenset({"input", "target", "code"}), lambda row, where: dict(row)),
)
#: Formats of questions with options.
CHOICES = frozenset(
    name for name, _, read in _PUBLISHED
    if read in (
        choices_row, labelled_row, lettered_row, option_columns_row, rationale_row, right_first_row, yes_no_row
    )
)  # fmt: skip
#: Formats that anybody's questions may have.
ANYBODYS = (
    "question and answer", "question and answers", "question and response", "question and solution",
    "prompt and answer", "prompt and chosen", "prompt and completion", "prompt and response",
    "instruction and response", "input and output", "messages",
)  # fmt: skip


def row_format(row: Any) -> str | None:
    """Whose published format a row has.

    Args:
        row: column name -> value.

    Returns:
        The name of who publishes it, such as "SVAMP", or one of `ANYBODYS`; None if it is not recognised.
    """
    if not isinstance(row, Mapping):
        return None
    if is_chat(row):
        return "messages"
    names = set(row)
    known = ((name, frozenset({columns.question, columns.answer})) for name, columns in _KNOWN)
    published = ((name, columns) for name, columns, _ in _PUBLISHED)
    found_format = next((name for name, columns in (*published, *known) if columns <= names), None)
    return "GSM8K" if found_format == ANYBODYS[0] and "####" in str(row["answer"]) else found_format


def _published(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row of a published format with this package's columns, any other row as it is."""
    if is_chat(row):
        return chat_row(row, where)
    reader = next((read for _, columns, read in _PUBLISHED if columns <= set(row)), None)
    if reader is None and is_reading(row):
        reader = reading_row
    return row if reader is None else reader(row, where)


def _recognised(names: Collection[str]) -> FileColumns | None:
    return next((known for _, known in _KNOWN if {known.question, known.answer} <= set(names)), None)


def _working(row: Mapping[str, Any], names: FileColumns) -> str:
    """The column that holds the steps; without one, the first that others give theirs and that is written in."""
    found_names = (name for name in _WORKINGS if isinstance(row.get(name), (str, list)) and row[name])
    return names.steps if row.get(names.steps) else next(found_names, names.steps)


def _as_asked(lines: list[str], steps_format: StepsFormat) -> tuple[str, ...]:
    """Annotated steps in the format asked for, each of a line of nothing but annotations; without any as they are."""
    if not any("<<" in line for line in lines):
        return tuple(lines)
    parted = [part for line in lines for part in (annotations_alone(line) or [line])]
    return format_steps(parted, steps_format)


def parse_row(row: Any, columns: FileColumns | None, steps_format: StepsFormat, where: str) -> Example:
    """Read one row.

    Args:
        row: column name -> value.
        columns: names of the columns; None recognises published formats.
        steps_format: how annotated steps are written.
        where: file and line, for messages.

    Returns:
        The example. Answers with `####` are read as GSM8K's, answers with an `<answer>` tag as tagged completions.

    Raises:
        DataError: naming file, line and column, and what was expected there.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with named columns, found {found(row)}")
    row = row if columns else _published(row, where)
    names = columns or _recognised(row)
    if names is None:
        raise DataError(
            f"{where}: expected columns 'question' and 'answer', found {names_of(row)}",
            "name them with --question-column and --answer-column",
        )
    question, answer = text_of(row, names.question, where), text_of(row, names.answer, where)
    accepted = list_of(row, names.accepted, where)
    if columns is None and names is _INSTRUCTION:
        if row.get("input") not in (None, ""):
            question = f"{question}\n{text_of(row, 'input', where)}"
        else:
            answer, others = instruction_gold(question, answer)
            accepted = [*others, *accepted]
    if "####" in answer:
        example = parse_gsm8k(question, answer, steps_format)
        if example is None:
            raise DataError(f"{where}, column {names.answer!r}: expected an answer after ####, found nothing")
        return example
    if "<answer>" in answer or "<reasoning>" in answer:
        tagged = _TAGGED.fullmatch(answer)
        if tagged is None or not tagged[3].strip():
            raise DataError(
                f"{where}, column {names.answer!r}: expected <reasoning>..</reasoning><answer>..</answer>, "
                f"found {answer[:40]!r}"
            )
        lines, answer = [line.strip() for line in (tagged[2] or "").split("\n") if line.strip()], tagged[3].strip()
    else:
        lines = list_of(row, names.steps if columns else _working(row, names), where)
        if not lines:
            lines, answer = worked(answer)
        elif lines[0].startswith("<think>"):  # OpenMathReasoning's solutions
            lines = worked("\n".join(lines))[0]
    said = row.get("language") if columns is None else None  # as this package writes it
    language = said if said in MGSM_LANGUAGES else detect_language(question)
    return Example(question, _as_asked(lines, steps_format), answer, language, tuple(accepted))


def sound_examples(
    rows: Iterable[Row], read: Callable[[str, Any], Example], on_bad: Callable[[DataError], None] | None
) -> Iterator[Example]:
    """Read rows one after another.

    Args:
        rows: where each stands, and the row; or, in its place, the error that it could not be taken from the file.
        read: turns place and row into an example.
        on_bad: told of each row that cannot be read, which is then left out; None raises at the first.

    Yields:
        Examples, in order.

    Raises:
        DataError: for a row that cannot be read, without `on_bad`.
    """
    for where, row in rows:
        try:
            if isinstance(row, DataError):
                raise row
            example = read(where, row)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(error)
        else:
            yield example
