"""Generated English and Japanese sentences that say the same: translation both ways, and quiz questions about them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from latent_gemma.data.splits import Split, split_of

Row = dict[str, str]

_NAMES = (
    ("Tom", "トム"), ("Mary", "メアリー"), ("Ken", "健"), ("Yuki", "由紀"), ("Emma", "エマ"), ("Hiroshi", "浩"),
    ("Sakura", "桜"), ("Jack", "ジャック"), ("Naomi", "直美"), ("Lucy", "ルーシー"), ("Taro", "太郎"), ("Bob", "ボブ"),
)  # fmt: skip
#: Past, base form, Japanese.
_VERBS = (
    ("bought", "buy", "買いました"), ("sold", "sell", "売りました"), ("found", "find", "見つけました"),
    ("lost", "lose", "なくしました"), ("counted", "count", "数えました"), ("drew", "draw", "描きました"),
    ("carried", "carry", "運びました"), ("washed", "wash", "洗いました"),
)  # fmt: skip
#: English plural, Japanese, and the word that counts them in Japanese.
_OBJECTS = (
    ("apples", "りんご", "個"), ("eggs", "卵", "個"), ("stones", "石", "個"), ("boxes", "箱", "個"),
    ("pencils", "鉛筆", "本"), ("bottles", "瓶", "本"), ("umbrellas", "傘", "本"), ("flowers", "花", "本"),
    ("plates", "皿", "枚"), ("shirts", "シャツ", "枚"), ("towels", "タオル", "枚"), ("coins", "硬貨", "枚"),
    ("cars", "車", "台"), ("bicycles", "自転車", "台"), ("pianos", "ピアノ", "台"), ("cameras", "カメラ", "台"),
)  # fmt: skip
_NUMBERS = (
    ("two", "二"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"), ("seven", "七"), ("eight", "八"),
    ("nine", "九"), ("ten", "十"),
)  # fmt: skip
_PLACES = (
    ("Tokyo", "東京"), ("Osaka", "大阪"), ("Kyoto", "京都"), ("London", "ロンドン"), ("Paris", "パリ"),
    ("Sapporo", "札幌"), ("Nagoya", "名古屋"), ("Boston", "ボストン"), ("Fukuoka", "福岡"), ("Rome", "ローマ"),
)  # fmt: skip
_TIMES = (
    ("yesterday", "昨日"), ("last week", "先週"), ("last year", "去年"), ("last month", "先月"),
    ("this morning", "今朝"), ("on Monday", "月曜日に"), ("on Friday", "金曜日に"), ("on Sunday", "日曜日に"),
)  # fmt: skip
_INTO_JAPANESE, _INTO_ENGLISH = "次の入力を日本語に翻訳してください。", "次の入力を英語に翻訳してください。"
KINDS = ("en-ja", "ja-en", "quiz-en", "quiz-ja")


@dataclass(frozen=True)
class Fact:
    """Who did what to how many, where and when: indices into the lexicon."""

    name: int
    verb: int
    thing: int
    number: int
    place: int
    time: int

    @property
    def english(self) -> str:
        """Such as "Tom bought three apples in Tokyo yesterday."."""
        words = (_NAMES[self.name], _VERBS[self.verb], _NUMBERS[self.number], _OBJECTS[self.thing])
        told = " ".join(word[0] for word in words)
        return f"{told} in {_PLACES[self.place][0]} {_TIMES[self.time][0]}."

    @property
    def japanese(self) -> str:
        """The same, such as "昨日トムは東京でりんごを三個買いました。"; what counts a thing depends on the thing."""
        thing, counter = _OBJECTS[self.thing][1:]
        told = f"{_TIMES[self.time][1]}{_NAMES[self.name][1]}は{_PLACES[self.place][1]}で"
        return f"{told}{thing}を{_NUMBERS[self.number][1]}{counter}{_VERBS[self.verb][2]}。"


def draw_fact(rng: random.Random, split: Split) -> Fact:
    """Draw a fact.

    Args:
        rng: the generator.
        split: "train" or "test": one fact in eight is for testing alone, in both languages and in every kind of row.

    Returns:
        The fact.
    """
    while True:
        lexicon = (_NAMES, _VERBS, _OBJECTS, _NUMBERS, _PLACES, _TIMES)
        fact = Fact(*(rng.randrange(len(words)) for words in lexicon))
        if split_of(fact.english) == split:
            return fact


def _asked(fact: Fact, rng: random.Random, japanese: bool) -> tuple[str, str]:
    """A question about a fact, and its answer."""
    name, place, time = _NAMES[fact.name], _PLACES[fact.place], _TIMES[fact.time]
    things, thing, counter = _OBJECTS[fact.thing]
    number, (_, base, did) = _NUMBERS[fact.number], _VERBS[fact.verb]
    if japanese:
        choices = (
            (f"{name[1]}はどこで{thing}を{did}か？", place[1]),
            (f"{name[1]}はいつ{thing}を{did}か？", time[1].removesuffix("に")),
            (f"{name[1]}は{thing}を何{counter}{did}か？", f"{number[1]}{counter}"),
            (f"{name[1]}は{place[1]}で何を{did}か？", thing),
        )
    else:
        choices = (
            (f"Where did {name[0]} {base} the {things}?", place[0]),
            (f"When did {name[0]} {base} the {things}?", time[0]),
            (f"How many {things} did {name[0]} {base}?", number[0]),
            (f"What did {name[0]} {base} in {place[0]}?", things),
        )
    return rng.choice(choices)


def _row(kind: str, rng: random.Random, split: Split) -> Row:
    fact = draw_fact(rng, split)
    if kind == "en-ja":
        return {"instruction": _INTO_JAPANESE, "input": fact.english, "output": fact.japanese}
    if kind == "ja-en":
        return {"instruction": _INTO_ENGLISH, "input": fact.japanese, "output": fact.english}
    japanese = kind == "quiz-ja"
    other = draw_fact(rng, split)
    while other.name == fact.name:
        other = draw_fact(rng, split)
    told = [fact, other]
    rng.shuffle(told)
    text = "".join(each.japanese for each in told) if japanese else " ".join(each.english for each in told)
    question, answer = _asked(fact, rng, japanese)
    return {"instruction": question, "input": text, "output": answer}


def bilingual_rows(kind: str, split: Split, seed: int) -> Iterator[Row]:
    """Rows in the format of llm-japanese-dataset: instruction, input, output.

    Args:
        kind: "en-ja" or "ja-en", a sentence to translate; "quiz-en" or "quiz-ja", a question about one of two
            sentences.
        split: "train" or "test"; no sentence is in both, in whichever language or kind.
        seed: of the generator.

    Yields:
        Rows without end, out of some 1.1 million sentences.

    Source: the format is that of izumi-lab/llm-japanese-dataset; the sentences are made here.
    """
    rng = random.Random(f"{kind}-{split}-{seed}")
    while True:
        yield _row(kind, rng, split)
