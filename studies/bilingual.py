"""A tiny Gemma 2 on English and Japanese, judged by four metrics on held-out rows.

The report in results/bilingual:

    python studies/bilingual.py --encoder runs/e5
"""

import itertools
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from shared import command, models_folder
from tyro.conf import Positional

from latent_gemma.data.bilingual import KINDS, bilingual_rows
from latent_gemma.data.example import Example
from latent_gemma.data.rows import parse_row
from latent_gemma.data.splits import Split, split_of
from latent_gemma.data.task_list import load_task
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator, Measured
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalReport, Grid
from latent_gemma.inspection.tables import metrics_grid
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.write import publish
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.ranges import Count, Positive, Seed, check_ranges
from latent_gemma.recipes.resume import Origin, Stopped, Unfinished, begin, finished_stage, resumes, step_size
from latent_gemma.recipes.stage import Parent, machine, run_folder, save_stage, training_curves
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import Resume, TrainSettings
from latent_gemma.versions import versions

#: A word with the space before it, or one character of those that a byte-level vocabulary spells in several bytes.
_PIECES = re.compile(r" ?[A-Za-z]+|[^\x00-\u0143]")
_ROWS = 6000  #: generated training rows of each kind
_SHOWN = 3  #: answers of each kind that the report quotes
SIZES = {"hidden_size": 128, "num_layers": 3, "num_heads": 2, "intermediate_size": 256}
SETTINGS = TrainSettings(batch_size=32, lr=2e-3, warmup=0.05, log_every=20)


@dataclass(frozen=True)
class Bilingual:
    """Train a tiny Gemma 2 on translation both ways and quiz questions; exact, fuzzy, BLEU and BERTScore by kind.

    Args:
        data: task and local file in its format, such as en-ja=translation.json jquiz=quiz.json; none generates rows.
        encoder: of BERTScore: a local directory or a hub name; without one BERTScore is not measured.
        out: folder of the report.
        models: folder of the model; None takes the name of `out` under runs.
        items: held-out rows of each kind that are measured, at most.
        steps: optimiser steps.
        seed: of the weights, the data and the training.
        max_hours: stop in time, after this many hours.
        resume: go on with a study that was stopped; "auto" starts it if there is none.
    """

    data: Positional[tuple[str, ...]] = ()
    encoder: str = ""
    out: Path = Path("results/bilingual")
    models: Path | None = None
    items: Count = 250
    steps: Count = 800
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
        LatentGemmaError: if a folder is not empty or holds a study with other settings, or data or encoder cannot be
            read.
    """
    console, started, report = Console(), time.monotonic(), None
    read = _read if config.data else _generate
    train, tests = read(config, "train"), read(config, "test")
    rows = [example for examples in train.values() for example in examples]
    random.Random(config.seed).shuffle(rows)
    models = models_folder(config.out, config.models)
    settings = replace(SETTINGS, steps=config.steps, seed=config.seed, max_hours=config.max_hours)
    goes_on, size = config.resume != "no", step_size(settings.batch_size, settings.accumulate)
    origin = Origin("studies/bilingual", config, config.seed, Parent("a fresh tiny Gemma 2"), rows, size)
    with (
        run_folder(config.out, goes_on) as out,
        run_folder(models, goes_on),
        Unfinished(["bilingual"]) as unfinished,
    ):
        resume = resumes(models, config.resume, origin)
        tokenizer = build_tokenizer(vocabulary(rows))
        if resume is None:
            model, _, result = finished_stage(models)
        else:
            latent = LatentConfig(num_thoughts=0, step_separator="")
            model = build_tiny("gemma2", latent, vocab_size=len(tokenizer), seed=config.seed, **SIZES)
            begin(models, origin)
            result = fit(
                model, tokenizer, rows, WrittenCurriculum("none"), settings, models, "bilingual", resume=resume,
                started_s=started,
            )  # fmt: skip
            if result.finished:
                save_stage(models, origin.record(), tokenizer, result)
            if result.asked:
                raise Stopped("bilingual", result)
        measured = {
            kind: _measure(kind, model, tokenizer, examples[: config.items], config, console)
            for kind, examples in tests.items()
        }
        found = tuple(measured[kind].row for kind in tests)
        minutes = (time.monotonic() - started) / 60
        report = EvalReport(
            title="A tiny Gemma 2 on English and Japanese",
            verdict=f"On held-out rows. {verdict(found)}" + ("" if config.encoder else " BERTScore: not measured."),
            rows=found,
            context={
                "data": " ".join(config.data) or "generated sentences in the format of llm-japanese-dataset",
                "rows": ", ".join(f"{kind} {len(train[kind])} to learn from" for kind in train),
                "split": "by a hash of the sentence, the same for both directions: no measured sentence was learnt",
                "model": f"Gemma 2, {sum(p.numel() for p in model.parameters()):,} parameters, "
                f"{len(tokenizer):,} tokens (words and characters of the training rows, bytes for the rest)",
                "training": f"{result.steps} steps of {settings.batch_size}, {result.seconds:.0f} s",
                "time": f"{minutes:.1f} minutes", "machine": machine(), "seed": str(config.seed), **versions(),
            },
            curves=training_curves(result.metrics),
            tables=(*metrics_grid(found), _quoted(measured)),
        )  # fmt: skip
        unfinished.done("bilingual")
        publish(report, out, console)
    return report


def vocabulary(examples: Iterable[Example], least: int = 3) -> list[str]:
    """Words and characters that are one token each.

    Args:
        examples: the training rows.
        least: times a piece has to occur.

    Returns:
        English words with the space before them, and characters of Japanese; what is rarer is spelt in bytes.
    """
    counted = Counter(
        piece for example in examples for text in (example.question, example.answer) for piece in _PIECES.findall(text)
    )
    return [piece for piece, count in sorted(counted.items()) if count >= least]


def _generate(config: Bilingual, split: Split) -> dict[str, list[Example]]:
    count = _ROWS if split == "train" else config.items
    return {
        kind: [
            parse_row(row, None, "natural", f"generated row of {kind}")
            for row in itertools.islice(bilingual_rows(kind, split, config.seed), count)
        ]
        for kind in KINDS
    }


def _read(config: Bilingual, split: Split) -> dict[str, list[Example]]:
    found = {}
    for part in config.data:
        name, equals, path = part.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} names no file", "write the task and its file, such as en-ja=translation.json")
        examples = load_task(name, Path(path))
        # What is asked and what is answered together, in either order: a pair belongs to one split both ways.
        found[name] = [
            example
            for example in examples
            if split_of("\n".join(sorted((example.question.partition("\n")[2], example.answer)))) == split
        ]
        if not found[name]:
            raise ConfigError(f"{path} holds no {split} row of {name}", "give a larger file")
    return found


def _measure(
    kind: str, model: Any, tokenizer: Any, tests: list[Example], config: Bilingual, console: Console
) -> Measured:
    metrics = ("fuzzy", "bleu", *(("bertscore",) if config.encoder else ()), "language")
    settings = EvalSettings(
        controls=False, batch_size=125, max_new_tokens=96, seed=config.seed, metrics=metrics,
        encoder=config.encoder,
    )  # fmt: skip
    with console.status(f"measuring {kind}"):
        return Evaluator(model, tokenizer, tests, settings, kind).measure()


def _quoted(measured: Mapping[str, Measured]) -> Grid:
    """The first answers of each kind, as they came."""
    rows = tuple(
        (kind, item.question, item.expected[0], item.answer, "✓" if item.correct else "✗")
        for kind, found in measured.items()
        for item in found.items[:_SHOWN]
    )
    return Grid("First answers", ("kind", "asked", "expected", "answered", "right"), rows, "The first of each kind.")


if __name__ == "__main__":
    sys.exit(command(Bilingual, run_bilingual))
