"""Questions on a text, yes-or-no questions, and pairs of translations, as hub data sets have them."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import TEXTS, answers_of, found, list_of, on_its_text, text_of
from latent_gemma.errors import DataError
from latent_gemma.text.language import translation_request

#: What the rows are called in a file that says more than them.
_LISTS = ("data", "rows", "examples", "questions")


def rows_within(data: Mapping[str, Any]) -> list[Any]:
    """The rows of a file that is one object.

    Args:
        data: the object: SQuAD's and JSQuAD's articles of paragraphs of questions, or a list as `examples` (BIG-Bench
            Hard), `questions`, `data` or `rows` (the hub's server has each in a `row`).

    Returns:
        The rows, of a paragraph's questions each with its context; else the object itself as the only one.
    """
    listed = next((data[name] for name in _LISTS if isinstance(data.get(name), list)), None)
    if listed is None or not listed or not all(isinstance(row, Mapping) for row in listed):
        return [data]
    if any("paragraphs" in row for row in listed):
        try:
            parts = [part for article in listed for part in article["paragraphs"]]
            return [{"context": part["context"], **question} for part in parts for question in part["qas"]]
        except (TypeError, KeyError):  # of another shape: told as a row that it is not
            return [data]
    return [row.get("row", row) for row in listed]


def has_several(answer: Any) -> bool:
    """Whether it is several answers of which any is right, as NQ's list of texts or TriviaQA's value and aliases."""
    listed = isinstance(answer, list) and bool(answer) and all(isinstance(one, str) for one in answer)
    return listed or (isinstance(answer, Mapping) and {"value", "aliases"} <= set(answer))


def is_reading(row: Mapping[str, Any]) -> bool:
    """Whether a row of questions and answers has a text that a question is about, or several answers to it."""
    asked = {"question", "answer"} <= set(row) or {"instruction", "response"} <= set(row)
    return asked and (any(row.get(name) for name in TEXTS) or has_several(row.get("answer")))


def reading_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of SQuAD, JSQuAD, DROP, NQ, TriviaQA, ..: question, the text it is about, what answers it.

    Args:
        row: question or instruction; context or passage, which may be missing; answers {"text": [..]}, a list or a
            text, answer, answers_spans {"spans": [..]} or response; TriviaQA's is {"value": .., "aliases": [..]}.
        where: file and row, for messages.

    Returns:
        The row as question, steps where it has them, answer and accepted answers.

    Raises:
        DataError: naming the column that is missing or wrong, or without an answer (SQuAD 2 has such rows).

    Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and those after it.
    """
    answers = next(name for name in ("answers", "answers_spans", "answer", "response") if name in row)
    given = row[answers]
    if isinstance(given, list):
        given = [one.get("text") if isinstance(one, Mapping) else one for one in given]
    if isinstance(given, Mapping):
        several = next((given[name] for name in ("text", "spans", "aliases") if name in given), None)
        given = [*([given["value"]] if "value" in given else []), *(several if isinstance(several, list) else [])]
    first, others = answers_of({answers: given if isinstance(given, list) else [given]}, answers, where)
    asked = on_its_text(row, where, "question" if "question" in row else "instruction")
    return {"question": asked, "steps": row.get("steps"), "answer": first, "accepted": others}


def yes_no_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of BoolQ or StrategyQA: question, answer true or false, passage or facts.

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps (the facts) and answer: "yes" or "no", with "true" or "false" accepted; with another
        answer as `reading_row` has it.

    Raises:
        DataError: naming the column that is missing or wrong.

    Source: Clark et al. 2019 (arXiv 1905.10044); Geva et al. 2021 (arXiv 2101.02235).
    """
    answer = row["answer"]
    if not isinstance(answer, bool):
        return reading_row(row, where)
    return {
        "question": on_its_text(row, where),
        "steps": list_of(row, "facts", where),
        "answer": "yes" if answer else "no",
        "accepted": [str(answer).lower()],
    }


def translation_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read a row of OPUS, JParaCrawl, ..: translation {"en": "Good morning.", "ja": "おはようございます。"}.

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, the first of the two to be translated, and answer, the second.

    Raises:
        DataError: for other than two languages, the second English or Japanese.
    """
    pair = row["translation"]
    languages = list(pair) if isinstance(pair, Mapping) else []
    if len(languages) != 2 or languages[1] not in ("en", "ja"):
        raise DataError(
            f"{where}, column 'translation': expected a text in two languages, the second en or ja, found "
            f"{', '.join(map(str, languages)) or found(pair)}"
        )
    place = f"{where}, column 'translation'"
    source, target = (text_of(pair, language, place) for language in languages)
    return {"question": translation_request(source, languages[1]), "answer": target}
