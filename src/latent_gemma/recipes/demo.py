"""`latent-gemma demo`: a tiny Gemma 2 learns to reason in latent space (or in words), with the proof that it does."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.files import copy_folder
from latent_gemma.inspection.write import publish
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.options.stages import Demo
from latent_gemma.origin import RECORD, write_origin
from latent_gemma.recipes.demo_words import run_words_demo
from latent_gemma.recipes.methods import METHODS as BY_NAME
from latent_gemma.recipes.methods import Budget, Method, methods_of
from latent_gemma.recipes.resume import Origin, Unfinished, resume_study
from latent_gemma.recipes.stage import run_folder, run_record, say_options
from latent_gemma.recipes.study import Study, run_study
from latent_gemma.training.settings import TrainSettings

LENGTH = 4  #: most operations in a chain, and latent steps to replace them; each chain draws its own, from 1 on
MAX_ANSWER_TOKENS = LENGTH + 4


NAMES = ("none", "words", "coconut", "anneal")
BUDGET = Budget(text_steps=700, steps=400, longest=LENGTH)
METHODS = methods_of(NAMES, BUDGET)
SIZES = {"hidden_size": 128, "num_layers": 3, "intermediate_size": 256}
SETTINGS = TrainSettings(batch_size=64, lr=2e-3, warmup=0.05, log_every=10)


def chains_study(items: int, seed: int, methods: Sequence[Method] = METHODS) -> Study:
    """The demo's task and methods.

    Args:
        items: test questions.
        seed: of the questions.
        methods: in the order of training.

    Returns:
        The study.
    """

    def draw(split: Split, count: int) -> list[Example]:
        return list(itertools.islice(chain_examples(ChainConfig(LENGTH, shortest=1), split, seed), count))

    return Study(
        name="demo",
        title="A tiny Gemma 2 learns to reason in latent space",
        task=f"chains of 1 to {LENGTH} operations modulo 10",
        methods=tuple(methods),
        train=lambda count: draw("train", count),
        tests=draw("test", items),
        tokenizer=build_tokenizer(),
        settings=SETTINGS,
        sizes=SIZES,
        num_thoughts=LENGTH,
        max_new_tokens=MAX_ANSWER_TOKENS,
        ks=tuple(range(LENGTH + 3)),
        ps=(0.0, 0.25, 0.5, 0.75, 1.0),
    )


def run_demo(config: Demo) -> EvalReport | None:
    """Train, measure, print and write the report.

    Args:
        config: see `Demo`.

    Returns:
        The report, of the methods that are finished; None if the demo was stopped, or none is.

    Raises:
        RunError: if the folder is not empty, or holds a demo with other settings.
    """
    started_s = time.monotonic()
    if config.words:
        return run_words_demo(config, started_s)
    out, items = config.out or Path("runs/demo"), config.items or 500
    console, report = Console(), None
    study = chains_study(items, config.seed, methods_of(tuple(BY_NAME), BUDGET) if config.all else METHODS)
    study = replace(study, settings=replace(study.settings, max_hours=config.max_hours))
    with (
        run_folder(out, config.resume != "no"),
        Unfinished(study.labels([config.seed])) as unfinished,
    ):
        resume_study(out, config.resume, Origin("demo", replace(config, items=items), config.seed))
        say_options("demo", config)
        console.print(f"Chains of 1 to {LENGTH} operations, left to right, modulo 10: {_worked(study.tests[0])}")
        found = run_study(study, {config.seed: out}, config.scale, unfinished, console, started_s)
        if found:
            report = found[config.seed].report
            publish(report, out, console)
        if not unfinished.left:
            copy_folder(out / "annealed" / "model", out / "model")
            write_origin(out / RECORD, run_record("demo", config, config.seed))
            console.print(f'next: latent-gemma ask {out} "{study.tests[1].question}" --thoughts', markup=False)
    return report


def _worked(example: Example) -> str:
    return f"{example.question} steps {' '.join(example.steps)}, answer {example.answer}"
