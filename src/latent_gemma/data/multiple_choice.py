"""Questions with options, each published form of them: lettered, numbered, labelled, one option a column."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from latent_gemma.data.values import found, list_of, on_its_text, text_of
from latent_gemma.errors import DataError

_LETTERS = "ABCDEFGHIJ"
_MARK = re.compile(r"\(?[A-J][).:]\s*(?=\S)")
#: Of MathQA: "a ) 5 , b ) 6"; in some rows a list as Python prints it.
_LISTED = re.compile(r"(?:^\[?|,)\s*['\"]?([a-e]) \)\s*(?:\1 \)\s*)?")
#: The columns of a question whose options have one each, in order, and of which number is right from what on.
_OPTION_COLUMNS = (
    ("question", tuple(f"choice{number}" for number in range(5)), "label", 0),
    ("question", ("opa", "opb", "opc", "opd"), "cop", 0),
    ("goal", ("sol1", "sol2"), "label", 0),
    ("question", ("answerA", "answerB", "answerC"), "label", 1),
    ("sentence", ("option1", "option2"), "answer", 1),
)


def _lettered(listed: Sequence[str]) -> dict[str, str]:
    """Options such as "A) True" or "(A) True": letter -> text."""
    return {mark.strip(" ("): text.strip() for mark, _, text in (option.partition(")") for option in listed)}


def lettered_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row: context, question, options ["A) True", "B) False"], answer "A", explanation (the proof's steps).

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer: the option's text, with its letter accepted too. Options that the
        question does not name stand below it.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the options.

    Source: Pan et al. 2023 (arXiv 2305.12295); ProntoQA is Saparov and He 2023 (arXiv 2210.01240).
    """
    letter = text_of(row, "answer", where)
    listed = list_of(row, "options", where)
    options = _lettered(listed)
    if not options.get(letter):
        raise DataError(f"{where}, column 'answer': expected one of the options' letters, found {letter[:40]!r}")
    asked = text_of(row, "question", where)
    if not all(text.casefold() in asked.casefold() for text in options.values()):
        asked = "\n".join([asked, *listed])
    return {
        "question": f"{text_of(row, 'context', where)} {asked}",
        "steps": list_of(row, "explanation", where),
        "answer": options[letter],
        "accepted": [letter],
    }


def choices_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of MMLU: question, choices ["..", ".."], answer 2, which counts from 0, or "C"; MMLU-Pro and RACE:
    options; MedQA: options {"A": ".."}, answer_idx "A"; ReClor: answers, label 2; AGIEval: options, label "C".

    Args:
        row: column name -> value; some have the text that the question is about, and AGIEval questions without options.
        where: file and row, for messages.

    Returns:
        The row as question, with the choices lettered below it, and answer: the choice's text, its letter accepted.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the choices.

    Source: Hendrycks et al. 2021 (arXiv 2009.03300); Wang et al. 2024 (arXiv 2406.01574); Lai et al. 2017 (arXiv
        1704.04683); Jin et al. 2021 (arXiv 2009.13081); Yu et al. 2020 (arXiv 2002.04326);
        Zhong et al. 2023 (arXiv 2304.06364).
    """
    column = next(name for name in ("choices", "options", "answers") if name in row)
    if row[column] in (None, "", []):
        return {"question": on_its_text(row, where), "answer": text_of(row, "answer", where)}
    answer = next((name for name in ("answer_idx", "label") if row.get(name) not in (None, "")), "answer")
    listed, given = row[column], text_of(row, answer, where)
    if isinstance(listed, Mapping):
        lettered = {str(letter): text_of(listed, letter, f"{where}, column {column!r}") for letter in listed}
    else:
        choices = list_of(row, column, where)
        # Some have their letters already.
        choices = [_MARK.sub("", choice) for choice in choices] if all(map(_MARK.match, choices)) else choices
        lettered = dict(zip(_LETTERS, choices, strict=False)) if len(choices) <= len(_LETTERS) else {}
    letter = list(lettered)[int(given)] if given.isdecimal() and int(given) < len(lettered) else given
    if letter not in lettered:
        raise DataError(f"{where}, column {answer!r}: expected the number or letter of a choice, found {given[:40]!r}")
    return _asked(on_its_text(row, where), lettered, letter)


def _asked(question: str, options: Mapping[str, str], right: str, steps: Any = None) -> dict[str, Any]:
    """A question with its options below it: mark -> option."""
    listed = [f"{mark}) {option}" for mark, option in options.items()]
    return {"question": "\n".join([question, *listed]), "steps": steps, "answer": options[right], "accepted": [right]}


def labelled_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of ARC, CommonsenseQA or OpenBookQA: question, choices with label and text, answerKey "B".

    Args:
        row: question or question_stem, and choices {"text": [..], "label": [..]}, as the hub has them; or question
            {"stem": .., "choices": [{"text": .., "label": ..}, ..]}, as they were published.
        where: file and row, for messages.

    Returns:
        The row as question, with the choices below it under their labels, and answer: the choice's text, its label
        accepted.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the choices.

    Source: Clark et al. 2018 (arXiv 1803.05457); Talmor et al. 2019 (arXiv 1811.00937); Mihaylov et al. 2018
        (arXiv 1809.02789).
    """
    asked = row.get("question", row.get("question_stem"))
    stem, choices = (
        (asked.get("stem"), asked.get("choices")) if isinstance(asked, Mapping) else (asked, row.get("choices"))
    )
    if isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices):
        choices = {name: [choice.get(name) for choice in choices] for name in ("label", "text")}
    place = f"{where}, column 'choices'"
    if not isinstance(choices, Mapping):
        raise DataError(f"{place}: expected labels and texts, found {found(choices)}")
    labels, texts = list_of(choices, "label", place), list_of(choices, "text", place)
    right = text_of(row, "answerKey", where)
    if len(labels) != len(texts) or right not in labels:
        raise DataError(f"{where}, column 'answerKey': expected the label of a choice, found {right[:40]!r}")
    return _asked(text_of({"question": stem}, "question", where), dict(zip(labels, texts, strict=True)), right)


def rationale_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of AQuA or MathQA: question, options ["A)5", ..] or "a ) 5 , b ) 6", rationale, correct "B".

    Args:
        row: column name -> value; MathQA has a problem or Problem, and a Rationale.
        where: file and row, for messages.

    Returns:
        The row as question, with the options below it, steps (the rationale's lines) and answer: the option's text, its
        letter accepted.

    Raises:
        DataError: naming the column that is missing or wrong, or an answer that is none of the options.

    Source: Ling et al. 2017 (arXiv 1705.04146); Amini et al. 2019 (arXiv 1905.13319).
    """
    given = row["options"]
    if isinstance(given, str):
        _, *parts = _LISTED.split(given)
        options = {mark.upper(): text.strip(" '\"]") for mark, text in zip(parts[::2], parts[1::2], strict=True)}
    else:
        options = _lettered(list_of(row, "options", where))
    letter = text_of(row, "correct", where).upper()
    if not options.get(letter):
        raise DataError(f"{where}, column 'correct': expected one of the options' letters, found {letter[:40]!r}")
    asked, rationale = (
        next(name for name in names if name in row)
        for names in (("question", "problem", "Problem"), ("rationale", "Rationale"))
    )
    return _asked(text_of(row, asked, where), options, letter, list_of(row, rationale, where))


def option_columns_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of JCommonsenseQA, PIQA, Social IQa or WinoGrande: a question, a column for each option, and a label.

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, with the options lettered below it, and answer: the option's text, its letter accepted.

    Raises:
        DataError: naming the column that is missing or wrong, or a label that is none of the options.

    Source: Kurihara et al. 2022 (JGLUE); Bisk et al. 2020 (arXiv 1911.11641); Sap et al. 2019 (arXiv 1904.09728);
        Sakaguchi et al. 2020 (arXiv 1907.10641).
    """
    asked, columns, label, first = next(form for form in _OPTION_COLUMNS if {form[0], *form[1]} <= set(row))
    options = {letter: text_of(row, name, where) for letter, name in zip(_LETTERS, columns, strict=False)}
    given = text_of(row, label, where)
    if not given.isdecimal() or not 0 <= int(given) - first < len(columns):
        raise DataError(f"{where}, column {label!r}: expected the number of an option, found {given[:40]!r}")
    return _asked(on_its_text(row, where, asked), options, _LETTERS[int(given) - first])


def right_first_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of BIG-bench (input, target_scores {"Yes": 1, "No": 0}), GPQA (Question, Correct Answer, Incorrect
    Answer 1 to 3) or SciQ (question, correct_answer, distractor1 to 3, support).

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, with the options lettered below it, steps where it has them, and answer: the right option,
        its letter accepted. Options are shuffled, by the question alone: as published the right one comes first.

    Raises:
        DataError: naming the column that is missing or wrong, or without an option that is best.

    Source: Srivastava et al. 2022 (arXiv 2206.04615); Rein et al. 2023 (arXiv 2311.12022); Welbl et al. 2017 (arXiv
        1707.06209).
    """
    steps: list[str] = []
    if "target_scores" in row:
        question, scores = text_of(row, "input", where), row["target_scores"]
        numbers = list(scores.values()) if isinstance(scores, Mapping) else []
        if (
            not all(isinstance(number, (int, float)) for number in numbers)
            or numbers.count(max(numbers, default=0)) != 1
        ):
            raise DataError(f"{where}, column 'target_scores': expected options of which one is best")
        options = [str(option) for option in scores]
        right = options[numbers.index(max(numbers))]
    else:
        is_gpqa = "Question" in row
        question = text_of(row, "Question" if is_gpqa else "question", where)
        wrong = "Incorrect Answer " if is_gpqa else "distractor"
        right = text_of(row, "Correct Answer" if is_gpqa else "correct_answer", where)
        options = [right, *(text_of(row, f"{wrong}{number}", where) for number in (1, 2, 3))]
        steps = list_of(row, "Explanation" if is_gpqa else "support", where)
    options = list(dict.fromkeys(options))
    if len(options) > len(_LETTERS):
        raise DataError(f"{where}: expected at most {len(_LETTERS)} options, found {len(options)}")
    random.Random(question).shuffle(options)
    lettered = dict(zip(_LETTERS, options, strict=False))
    return _asked(question, lettered, next(letter for letter, option in lettered.items() if option == right), steps)
