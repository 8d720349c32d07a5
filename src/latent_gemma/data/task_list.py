"""What models are evaluated on: every task by name, what leaks into what, and one entry to load them."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.data.hub import load_hub
from latent_gemma.data.load import GENERATORS, DataSpec, load_examples
from latent_gemma.data.local import file_format, read_file
from latent_gemma.data.mgsm import MGSM_LANGUAGES, file_language
from latent_gemma.data.rows import ANYBODYS
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.text.language import translation_target
from latent_gemma.text.normalize import normalize_answer, parse_number

AnswerKind = Literal["number", "math", "choice", "text", "translation"]


@dataclass(frozen=True)
class Task:
    """One evaluation task.

    Args:
        name: what it is asked for by.
        source: its hub name, a generator with its settings, or, where the hub has no copy that can be read as it is,
            the repository that publishes the files.
        config: its configuration on the hub; None takes the default one.
        split: the split to evaluate; None if it can be had from a local file alone.
        licence: of the data; "see the hub card" where it is stated nowhere else.
        size: rows in the published evaluation file; None for data generated without end.
        fields: columns of the published format, the question's first.
        formats: who publishes files of it, as `row_format` names them; none for generated questions. A file of
            questions and answers without a format of its own may be any task's.
        language: of the questions; of the sentences to translate.
        answer_kind: how answers are compared.
        leaks: what is known to be in what else, in a sentence.
        max_new_tokens: tokens that reasoning in words and the answer fit into, as a hint.
        target: language of the answers where it is another one.
    """

    name: str
    source: str
    config: str | None
    split: str | None
    licence: str
    size: int | None
    fields: tuple[str, ...]
    formats: tuple[str, ...]
    language: str
    answer_kind: AnswerKind
    leaks: str
    max_new_tokens: int
    target: str | None = None

    @property
    def answer_language(self) -> str:
        """Language of the answers."""
        return self.target or self.language

    @property
    def is_generated(self) -> bool:
        """Whether the questions are generated here."""
        return self.source.partition(":")[0] in GENERATORS


def _mgsm(language: str) -> Task:
    return Task(
        f"mgsm-{language}",
        "juletxara/mgsm",
        language,
        "test",
        "CC BY 4.0",
        250,
        ("question", "answer"),
        ("MGSM",),
        language,
        "number",
        "the first 250 problems of GSM8K's test split" + (", translated" if language != "en" else ""),
        512,
    )


def _msvamp(language: str) -> Task:
    return Task(
        f"msvamp-{language}",
        "Mathoctopus/MSVAMP",
        language,
        "test",
        "Apache-2.0",
        1000,
        ("m_query", "response"),
        ("MSVAMP",),
        language,
        "number",
        "problems of SVAMP" + (", translated" if language != "en" else ""),
        512,
    )


def _translation(source: str, target: str) -> Task:
    return Task(
        f"{source}-{target}",
        "izumi-lab/llm-japanese-dataset",
        None,
        None,
        "CC BY 2.0 (its Tatoeba part); for others see the hub card",
        None,
        ("instruction", "input", "output"),
        ("llm-japanese-dataset",),
        source,
        "translation",
        f"the pairs of {target}-{source} may be the same the other way round; the hub has one split, for training",
        128,
        target,
    )


_GENERATED = "train and test are divided by a hash of the question, so none is in both"
_STEPS = ("question", "steps", "answer")

_TASKS = (
    Task("gsm8k", "openai/gsm8k", "main", "test", "MIT", 1319, ("question", "answer"),
         ("GSM8K", "PAL"), "en", "number",
         "its first 250 problems are MGSM in every language; GSM-Hard is all of it with larger numbers", 512),
    Task("math", "DigitalLearningGmbH/MATH-lighteval", None, "test", "MIT", 5000, ("problem", "solution"),
         ("MATH", "Big-Math"), "en", "math", "MATH-500 lies in it; Big-Math holds problems of it", 1024),
    Task("math-500", "HuggingFaceH4/MATH-500", None, "test", "MIT", 500, ("problem", "solution", "answer"),
         ("MATH", "Big-Math"), "en", "math", "lies in MATH's test split", 1024),
    *map(_mgsm, ("ja", "en", *(code for code in MGSM_LANGUAGES if code not in ("ja", "en")))),
    *map(_msvamp, ("ja", "en")),
    Task("svamp", "ChilleD/SVAMP", None, "test", "MIT", 1000, ("Body", "Question", "Equation", "Answer"),
         ("SVAMP", "PAL"), "en", "number",
         "variations of problems of ASDiv; MSVAMP translates them; the hub's copy has 300 rows in its test split", 512),
    Task("asdiv", "EleutherAI/asdiv", None, "validation", "CC BY-NC 4.0", 2305,
         ("Body", "Question", "Answer", "Formula"), ("ASDiv", "PAL"), "en", "text", "SVAMP varies problems of it", 512),
    Task("multiarith", "ChilleD/MultiArith", None, "test", "states none", 600,
         ("sQuestion", "lEquations", "lSolutions"), ("MultiArith", "PAL"), "en", "number",
         "part of MAWPS; the hub's copy has a part of the rows in its test split", 512),
    Task("gsm-hard", "reasoning-machines/gsm-hard", None, "train", "MIT", 1319, ("input", "target"),
         ("GSM-Hard", "PAL"), "en", "number", "GSM8K's test split with larger numbers", 512),
    Task("big-math", "SynthLabsAI/Big-Math-RL-Verified", None, "train", "Apache-2.0", 251_122,
         ("problem", "answer"), ("Big-Math",), "en", "math",
         "training data: holds problems of GSM8K's train split and 9,257 of MATH, which has 7,500 to train "
         "on, so some of MATH's test split too", 1024),
    Task("prosqa", "prosqa", None, "test", "MIT (the published rows)", 500, _STEPS, ("ProsQA",), "en", "choice",
         f"{_GENERATED}; names and concepts are those of the published rows", 192),
    Task("prontoqa", "asaparov/prontoqa", None, None, "Apache-2.0 (its generator)", None, _STEPS,
         ("ProntoQA",), "en", "choice", "generated rows share names and concepts with ProsQA", 192),
    Task("multiplication", "multiplication:digits=4", None, "test", "MIT (the published rows)", 1000, _STEPS,
         ("digit-wise multiplication",), "en", "text",
         f"{_GENERATED}; a published validation question may be generated by chance", 192),
    Task("arithmetic", "arithmetic", None, "test", "generated here", None, _STEPS, (), "en", "number", _GENERATED, 192),
    Task("chains", "chains", None, "test", "generated here", None, _STEPS, (), "en", "number", _GENERATED, 64),
    Task("jquiz", "izumi-lab/llm-japanese-dataset", None, None, "CC BY-SA 4.0", None,
         ("instruction", "input", "output"), ("llm-japanese-dataset", "AI王 quiz"), "ja", "text",
         "its quiz part is the AI王 and abc questions, so rows of the one are rows of the other; "
         "4 questions of aio_02_dev occur in the aio_01 files; the hub has one split, for training", 64),
    _translation("ja", "en"),
    _translation("en", "ja"),
    Task("jemhopqa", "aiishii/JEMHopQA", None, None, "CC BY-SA 4.0", 120, ("question", "answer", "derivations"),
         ("JEMHopQA",), "ja", "text", "none known; closed-book, so answers need knowledge of the world", 192),
    Task("niilc", "mynlp/niilc-qa", None, None, "CC BY-SA 4.0", 200, ("text", "answers"), ("NIILC",), "ja", "text",
         "none known; closed-book, so answers need knowledge of the world", 64),
)  # fmt: skip
#: Every task by its name.
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}


def find_task(name: str) -> Task:
    """Look a task up.

    Args:
        name: such as "gsm8k" or "mgsm-ja".

    Returns:
        The task.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in TASKS:
        raise ConfigError(f"task {name!r} is unknown", f"choose from {', '.join(TASKS)}")
    return TASKS[name]


def _check_format(task: Task, path: Path) -> None:
    """Refuse a file that somebody publishes as another task's."""
    found = file_format(path)
    if found is None or found in (*ANYBODYS, *task.formats):  # what is not recognised is told row by row
        return
    others, language = [other for other in _TASKS if found in other.formats], file_language(path)
    others = [other for other in others if other.language == language] or others
    own = " or ".join(task.formats) or "questions with their answers"
    named = ", ".join([other.name for other in others[:3]] + [".."] * (len(others) > 3))
    raise DataError(
        f"{path} holds rows of {found}, task {task.name} reads {own}",
        f"it is a file of {named}" if others else "give a file of the task",
    )


def _check_language(task: Task, path: Path, examples: Sequence[Example]) -> None:
    """Refuse a file in another language: as its name says, or else most of its questions."""
    languages = Counter(example.language for example in examples)
    said = max(languages, key=lambda language: languages[language], default=task.language)
    # Of a language in Latin script, and of most others, nothing is known where it is told by the script: all are "en".
    unknown = said == "en" and file_language(path) is None and task.language not in ("ja", "zh")
    if said == task.language or unknown:
        return
    family = "msvamp" if task.name.startswith("msvamp") else "mgsm"
    remedy = f"take {family}-{said}" if f"{family}-{said}" in TASKS else "give its file in that language"
    raise DataError(f"{path} is in {said!r}, task {task.name} in {task.language!r}", remedy)


def _check_answers(task: Task, path: Path, examples: Sequence[Example]) -> None:
    """Refuse a file whose answers are of another kind than the task's, whatever its columns are."""
    numbers = sum(parse_number(normalize_answer(example.answer)) is not None for example in examples)
    translations = sum(translation_target(example.question) is not None for example in examples)
    few = len(examples) / 2
    found = {
        "number": numbers < few and ("numbers", numbers),
        "choice": numbers > 0 and ("no numbers", numbers),
        "translation": 0 < translations < few and ("translations", translations),
        "text": translations > few and ("no translations", translations),
    }.get(task.answer_kind)
    if found:
        expected, count = found
        raise DataError(
            f"{path}, task {task.name}: expected {expected} as answers, found {count} in {len(examples)}",
            "give a file of the task",
        )


def _stored(task: Task, path: Path | None, on_bad: Callable[[DataError], None] | None) -> list[Example]:
    if path is None:
        if task.split is None:
            raise DataError(f"task {task.name} cannot be had by name", f"give a file of {task.source}")
        return list(load_hub(task.source, task.config, task.split, on_bad=on_bad))
    path = path.expanduser()
    _check_format(task, path)
    examples = list(read_file(path, on_bad=on_bad))
    _check_answers(task, path, examples)
    if task.answer_kind != "translation":  # one file holds both languages
        _check_language(task, path, examples)
    return examples


def load_task(
    name: str,
    path: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_bad: Callable[[DataError], None] | None = None,
) -> list[Example]:
    """Read the examples of a task.

    Args:
        name: the task.
        path: a local file in the published format, or any format that `read_file` knows; None takes the hub's copy,
            or generates the questions.
        limit: take this many; of a stored task a sample in file order, the same for the same seed and number of rows,
            so that files which are parallel line by line stay so.
        seed: of the sample or the generator.
        on_bad: told of each malformed row, which is then left out; None raises at the first.

    Returns:
        The examples, at least one, in the language of the task.

    Raises:
        ConfigError: for an unknown name, a limit below 1, or a generated task without a limit.
        DataError: if they cannot be had, a row is malformed, there are none, or a file is another task's: published as
            such, in another language, or with answers of another kind.
    """
    task = find_task(name)
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit} leaves no rows", "give 1 or more")
    if path is None and task.is_generated:
        return load_examples(DataSpec(task.source, "test", limit, seed))
    examples = [replace(example, language=task.language) for example in _stored(task, path, on_bad)]
    if task.answer_kind == "translation":
        examples = [example for example in examples if translation_target(example.question) == task.answer_language]
    if not examples:
        raise DataError(f"{path or task.source} holds no rows of task {name}", "give a file that does")
    if limit is None or limit >= len(examples):
        return examples
    return [examples[index] for index in sorted(random.Random(seed).sample(range(len(examples)), limit))]
