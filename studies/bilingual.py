"""A Gemma on Japanese and English rows: answers at once, or thinks four thoughts first.

Asked on rows it has learnt and on rows it has not, by four metrics. The report in results/bilingual, from three files
in the format of llm-japanese-dataset (quiz, multiple choice, translation both ways):

    python studies/bilingual.py aio.json jcommonsenseqa.json tatoeba_translation.json --encoder runs/e5
"""

import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from shared import command, models_folder
from tyro.conf import Positional

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.splits import split_of
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.write import publish
from latent_gemma.model.loading import TINY, load_model
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.ranges import Amount, Count, Positive, Seed, check_ranges
from latent_gemma.recipes.methods import Budget, methods_of
from latent_gemma.recipes.resume import Origin, Unfinished, finished_stage, resume_study
from latent_gemma.recipes.stage import Parent, run_folder
from latent_gemma.recipes.study import SeedResult, Study, run_study
from latent_gemma.text.language import translation_target
from latent_gemma.training.settings import Resume, TrainSettings

LEARNT, HELD_OUT = "learnt", "held out"
Kinds = dict[str, list[Example]]


@dataclass(frozen=True)
class Bilingual:
    """Train a Gemma on rows in Japanese and English with and without thoughts; accuracy, fuzzy, BLEU and BERTScore.

    Args:
        data: local files of rows; translations are told apart by the language they ask for, the others by their file.
        encoder: of BERTScore: a local directory or a hub name; without one BERTScore is not measured.
        model: the base, as every verb takes it.
        out: folder of the report.
        models: folder of the models; None takes the name of `out` under runs.
        rows: of each kind to learn from, at most.
        items: of each kind that are measured, of the learnt ones and of those held out, at most.
        max_tokens: of a row, question and answer together; longer ones are left out.
        num_thoughts: K, the same for every question.
        text_steps: optimiser steps of the stage without thoughts.
        steps: of each method after it.
        batch_size: rows of a step.
        lr: peak learning rate.
        seed: of the rows' order, the training and the controls.
        max_hours: stop in time, after this many hours.
        resume: go on with a study that was stopped; "auto" starts it if there is none.
    """

    data: Positional[tuple[Path, ...]]
    encoder: str = ""
    model: str = "gemma-3-270m"
    out: Path = Path("runs/bilingual")
    models: Path | None = None
    rows: Count = 200
    items: Count = 50
    max_tokens: Count = 50
    num_thoughts: Count = 4
    text_steps: Count = 100
    steps: Count = 100
    batch_size: Count = 16
    lr: Amount = 5e-5
    seed: Seed = 0
    max_hours: Positive | None = None
    resume: Resume = "no"

    def __post_init__(self) -> None:
        check_ranges(self)


def run_bilingual(config: Bilingual) -> EvalReport | None:
    """Train, measure, print and write the report.

    Args:
        config: see `Bilingual`.

    Returns:
        The report; None if the study was stopped.

    Raises:
        LatentGemmaError: if a folder is not empty or holds a study with other settings, or data, base or encoder cannot
            be read.
    """
    console, started_s = Console(), time.monotonic()
    base, tokenizer = load_model(config.model, {"num_thoughts": 0, "trained_for": "none"})
    train, tests = read_rows(config, tokenizer)
    study = _study(config, [row for rows in train.values() for row in rows], tests)
    models, found = models_folder(config.out, config.models), dict[int, SeedResult]()
    goes_on = config.resume != "no"
    with run_folder(config.out, goes_on) as out:  # one that is not free is told before an hour of training
        with run_folder(models, goes_on), Unfinished(study.labels([config.seed])) as unfinished:
            origin = Origin(study.name, config, config.seed, Parent.of(config.model), study.train(0))
            resume_study(models, config.resume, origin)
            found = run_study(study, {config.seed: models}, 1.0, unfinished, console, started_s)
        if unfinished.left:
            return None
        rows = {LEARNT: {kind: rows[: config.items] for kind, rows in train.items()}, HELD_OUT: tests}
        lines, said = _metrics(config, "base", base, tokenizer, rows, console)
        for method in study.methods:
            if method.measured:
                model, tokenizer, _ = finished_stage(models / method.folder)
                lines += _metrics(config, method.label, model, tokenizer, rows, console)[0]
        report = _with_metrics(config, found[config.seed].report, train, lines, said)
        publish(report, out, console)
    return report


def read_rows(config: Bilingual, tokenizer: Any) -> tuple[Kinds, Kinds]:
    """The rows to learn from and those held out.

    Args:
        config: which files, how many rows and how long.
        tokenizer: of the base.

    Returns:
        Kind -> its rows, of either; no question, and no sentence of a translation, is in both.

    Raises:
        LatentGemmaError: if a file cannot be read, or a kind has no row of either.
    """
    kinds: Kinds = {}
    for path in config.data:
        for row in load_examples(DataSpec(str(path))):
            if len(tokenizer(row.question + row.answer)["input_ids"]) <= config.max_tokens:
                target = translation_target(row.question)
                kinds.setdefault({"ja": "en-ja", "en": "ja-en"}.get(target or "", path.stem), []).append(row)
    if not kinds:
        raise ConfigError(
            f"there is no row of at most {config.max_tokens} tokens", "name files, or give --max-tokens more"
        )
    train: Kinds = {}
    for kind, rows in kinds.items():
        random.Random(config.seed).shuffle(rows)
        train[kind] = [row for row in rows if split_of("\n".join(_texts(row))) == "train"][: config.rows]
    learnt = {text for rows in train.values() for row in rows for text in _texts(row)}
    tests = {
        kind: [
            row for row in rows if split_of("\n".join(_texts(row))) == "test" and learnt.isdisjoint(_texts(row))
        ][: config.items]
        for kind, rows in kinds.items()
    }  # fmt: skip
    for kind in kinds:
        if not (train[kind] and tests[kind]):
            raise ConfigError(f"{kind} has no rows to learn from or none to hold out", "give a larger file")
    return train, tests


def _texts(row: Example) -> list[str]:
    """What is not to be on both sides: the question; of a translation both sentences, in either direction alike."""
    return sorted((row.question.partition("\n")[2], row.answer)) if translation_target(row.question) else [row.question]


def _study(config: Bilingual, rows: Sequence[Example], tests: Kinds) -> Study:
    budget = Budget(config.text_steps, config.steps, longest=0, max_latent_steps=config.num_thoughts)
    return Study(
        name="studies/bilingual",
        title=f"{config.model} on Japanese and English",
        task=f"{', '.join(tests)}: rows of at most {config.max_tokens} tokens",
        methods=methods_of(("none", "anneal"), budget),
        train=lambda count: list(rows),
        tests=[row for kind in tests.values() for row in kind],
        settings=TrainSettings(
            batch_size=config.batch_size, lr=config.lr, warmup=0.05, precision="bfloat16", seed=config.seed,
            max_hours=config.max_hours,
        ),
        num_thoughts=config.num_thoughts,
        max_new_tokens=config.max_tokens,
        model=config.model,
        tokenizer=build_tokenizer() if config.model == TINY else None,
        batch_size=100,
    )  # fmt: skip


def _metrics(
    config: Bilingual, label: str, model: Any, tokenizer: Any, rows: Mapping[str, Kinds], console: Console
) -> tuple[list[tuple[str, ...]], str]:
    """A line for each kind of learnt and held-out rows, and what the figures were made with."""
    names = ("fuzzy", "bleu", *(("bertscore",) if config.encoder else ()))
    settings = EvalSettings(
        controls=False, batch_size=100, max_new_tokens=config.max_tokens, seed=config.seed, metrics=names,
        encoder=config.encoder,
    )  # fmt: skip
    lines, signatures = [], set()
    for side, kinds in rows.items():
        for kind, examples in kinds.items():
            with console.status(f"measuring {label}: {side}, {kind}"):
                row = Evaluator(model, tokenizer, examples, settings, label).run()[0].row
            lines.append((label, side, kind, str(row.total), with_interval(row), *_figures(row)))
            signatures |= {f"{name}: {value}" for name, value in row.figures.items() if name.endswith("signature")}
    return lines, f"Exact in % with its 95 % interval, fuzzy and BLEU of 100. {'; '.join(sorted(signatures))}"


def _with_metrics(
    config: Bilingual, report: EvalReport, train: Kinds, lines: Sequence[tuple[str, ...]], said: str
) -> EvalReport:
    """The study's report with the metrics of learnt and held-out rows in front, and no row in it."""
    header = ("model", "rows", "kind", "n", "exact", "fuzzy", "BLEU", *(["BERTScore F1"] if config.encoder else []))
    return replace(
        report,
        verdict=f"All kinds of held-out rows together. {report.verdict}",
        context=report.context | {
            "rows": ", ".join(f"{kind} {len(rows)}" for kind, rows in train.items()) + " to learn from",
            "split": "by a hash of the row; no question and no sentence of either language is on both sides",
        },
        traces=(),  # rows under a licence stay out of the report
        tables=(Grid("Learnt and held out", header, tuple(lines), said), *report.tables),
    )  # fmt: skip


def _figures(row: EvalRow) -> list[str]:
    shown = {"fuzzy_0_100": 1, "bleu_0_100": 1, "bertscore_f1": 3}
    return [f"{row.figures[name]:.{digits}f}" for name, digits in shown.items() if name in row.figures]


if __name__ == "__main__":
    sys.exit(command(Bilingual, run_bilingual))
