"""Accuracy of the language rule on the published files; run with -s to see it by data set."""

import csv
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from latent_gemma.text.language import detect_language

DATA = Path(os.environ.get("LATENT_GEMMA_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
JAPANESE = DATA / "japanese"

pytestmark = pytest.mark.skipif(
    not JAPANESE.exists(), reason="set LATENT_GEMMA_DATA to the folder that holds the published files"
)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows(path):
    return json.loads(path.read_text(encoding="utf-8-sig"))


def field(name, records):
    return [record[name] for record in records]


def quiz(name):
    with (JAPANESE / "aio_quiz" / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def translations(side, japanese):
    records = rows(JAPANESE / "llm_japanese_format/tatoeba_translation.json")
    into_japanese = (side == "output") == japanese
    return [record[side] for record in records if ("日本語に" in record["instruction"]) == into_japanese]


def niilc():
    return list(ElementTree.parse(JAPANESE / "niilc_qa/NIILC-ECQA2015_dev.xml").getroot())


def questions():
    yield "gsm8k", "en", field("question", lines(DATA / "gsm8k/train.jsonl"))
    yield "mawps", "en", field("input", lines(DATA / "mawps/singleop.jsonl"))
    yield "prosqa", "en", field("question", rows(DATA / "prosqa/valid.json"))
    yield "prontoqa", "en", field("question", rows(DATA / "prontoqa/gen5hop_train.json"))
    yield "tatoeba", "en", translations("input", japanese=False)
    yield "tatoeba", "ja", translations("input", japanese=True)
    for path in sorted((JAPANESE / "aio_quiz").glob("*.tsv")):
        yield path.stem, "ja", field("original_question", quiz(path.name))
    yield "jcommonsenseqa", "ja", field("instruction", rows(JAPANESE / "llm_japanese_format/jcommonsenseqa.json"))
    yield "jemhopqa", "ja", field("question", rows(JAPANESE / "jemhopqa/train_ver1.2.json"))
    yield "niilc", "ja", [question.findtext("text") for question in niilc()]


def short_answers():
    """Answers of Japanese data sets as they are, names in Latin letters and numbers included."""
    for path in sorted((JAPANESE / "aio_quiz").glob("*.tsv")):
        yield path.stem, "ja", field("original_answer", quiz(path.name))
    yield "jcommonsenseqa", "ja", field("output", rows(JAPANESE / "llm_japanese_format/jcommonsenseqa.json"))
    # YES, NO and "-" are labels of the data sets, the same in every language.
    yield (
        "jemhopqa",
        "ja",
        [text for text in field("answer", rows(JAPANESE / "jemhopqa/train_ver1.2.json")) if text not in ("YES", "NO")],
    )
    found = [answer.text for question in niilc() for answer in question.iter("answer")]
    yield "niilc", "ja", [text for text in found if text and text != "-"]


def accuracy(sets):
    right = total = 0
    for name, language, texts in sets:
        hits = sum(detect_language(text) == language for text in texts)
        print(f"{name:16} {language} {hits:5} of {len(texts):5} = {100 * hits / len(texts):.2f} %")
        right, total = right + hits, total + len(texts)
    print(f"all                 {right:5} of {total:5} = {100 * right / total:.2f} %")
    return right / total


def test_nothing_japanese_is_taken_for_chinese():
    texts = [text for sets in (questions(), short_answers()) for _, language, part in sets if language == "ja"
             for text in part]  # fmt: skip
    assert [text for text in texts if detect_language(text) == "zh"] == []


def test_questions():
    assert accuracy(questions()) >= 0.995


def test_short_answers_of_japanese_data():
    assert accuracy(short_answers()) >= 0.96


def test_sentences_of_both_languages():
    sides = [(language, translations("output", language == "ja")) for language in ("en", "ja")]
    assert accuracy(("tatoeba", *side) for side in sides) >= 0.995
