"""`latent-gemma demo`: a tiny Gemma 2 learns to reason in latent space (or in words), with the proof that it does."""

import itertools
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.planning import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.tables import results_table
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.write import write_report
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.recipes.demo_words import run_words_demo
from latent_gemma.recipes.stage import Parent, machine, run_folder, save_stage, training_curves, versions
from latent_gemma.training.curriculum import AnnealCurriculum, CoconutCurriculum, Curriculum, WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.settings import TrainSettings

LENGTH = 4  #: operations in a chain, and latent steps to replace them
MAX_ANSWER_TOKENS = LENGTH + 4


@dataclass(frozen=True)
class Demo:
    """Train tiny models on chains of arithmetic: no reasoning, words, COCONUT, annealed; measure, control, report.

    Args:
        words: show reasoning in words instead: base, SFT and SFT + GRPO, each by one pass and by vote.
        out: folder of the models and the report; None takes runs/demo, with words runs/demo-words.
        items: test questions each setting is measured on; None takes 500, with words 1,000.
        seed: of the weights, the data and the training.
        scale: multiplies the number of training steps; below 1 the models are not trained to the end.
    """

    words: bool = False
    out: Path | None = None
    items: int | None = None
    seed: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class _Method:
    label: str
    parent: str | None
    curriculum: Curriculum
    steps: int


METHODS = (
    # As many steps as the longer of the latent models has had in both its stages.
    _Method("no reasoning", None, WrittenCurriculum("none"), 660),
    _Method("words", None, WrittenCurriculum("words"), 300),
    _Method("COCONUT", "words", CoconutCurriculum(first_stage=1, max_latent_stage=LENGTH, uniform_prob=0.1), 360),
    _Method("annealed", "words", AnnealCurriculum(grow_until=0.35, p_until=0.7, anchor_until=0.85), 270),
)
SETTINGS = TrainSettings(batch_size=64, lr=2e-3, warmup=0.05, log_every=10)


def _folder(label: str) -> str:
    return label.lower().replace(" ", "-")


def _train(method: _Method, config: Demo, out: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Train one method and save it as a stage; returns model, tokenizer and its training curves."""
    steps = max(1, round(method.steps * config.scale))
    settings = replace(SETTINGS, steps=steps, seed=config.seed)
    chains = chain_examples(ChainConfig(LENGTH), "train", config.seed)
    examples = list(itertools.islice(chains, steps * settings.batch_size))
    thinks = not isinstance(method.curriculum, WrittenCurriculum)
    latent: dict[str, Any] = {"num_thoughts": LENGTH if thinks else 0, "step_separator": "", "embed_rms": None}
    if method.parent is None:
        sizes = {"hidden_size": 128, "num_layers": 3, "intermediate_size": 256}
        model, tokenizer = build_tiny("gemma2", LatentConfig(**latent), seed=config.seed, **sizes), build_tokenizer()
    else:
        model, tokenizer = load_model(str(out / _folder(method.parent)), latent)
    run = out / _folder(method.label)
    run.mkdir()
    result = fit(model, tokenizer, examples, method.curriculum, settings, run, f"{method.label:>12}")
    model.set_latent(p=0.0)
    parent = Parent("a fresh tiny Gemma 2") if method.parent is None else Parent.of(str(out / _folder(method.parent)))
    save_stage(run, "demo", model, tokenizer, config, parent, result, config.seed)
    return model, tokenizer, training_curves(result.metrics, f"{method.label}: ")


def run_demo(config: Demo) -> EvalReport:
    """Train, measure, print one table and write the report.

    Args:
        config: see `Demo`.

    Returns:
        The report.

    Raises:
        RunError: if the folder is not empty.
    """
    if config.words:
        folder = config.out or Path("runs/demo-words")
        return run_words_demo(folder, config.items or 1000, config.seed, config.scale)
    console = Console()
    started = time.monotonic()
    with run_folder(config.out or Path("runs/demo"), resume=False) as out:
        tests = list(itertools.islice(chain_examples(ChainConfig(LENGTH), "test", config.seed), config.items or 500))
        console.print(f"Chains of {LENGTH} operations, left to right, modulo 10: {_worked(tests[0])}")
        rows: list[EvalRow] = []
        curves: dict[str, Any] = {}
        traces = []
        for method in METHODS:
            model, tokenizer, drawn = _train(method, config, out)
            curves.update({name: points for name, points in drawn.items() if "K" not in name.split(": ")[1]})
            thinks = model.config.latent.num_thoughts > 0
            settings = EvalSettings(
                ks=tuple(range(LENGTH + 3)), ps=(0.0, 0.25, 0.5, 0.75, 1.0), controls=thinks, batch_size=250,
                max_new_tokens=MAX_ANSWER_TOKENS, seed=config.seed,
            )  # fmt: skip
            evaluator = Evaluator(model, tokenizer, tests, settings, method.label)
            with console.status("") as status:
                if method.label == "words":
                    rows.append(evaluator.measure(mode="words").row)
                else:
                    rows += [found.row for found in evaluator.run(lambda text: status.update(f"measuring {text}"))]
            if thinks:
                traces += trace_examples(model, tokenizer, tests[:4], method.label, MAX_ANSWER_TOKENS)
        shutil.copytree(out / "annealed" / "model", out / "model")
        minutes = (time.monotonic() - started) / 60
        report = EvalReport(
            title="A tiny Gemma 2 learns to reason in latent space",
            verdict=verdict(rows),
            rows=tuple(rows),
            traces=tuple(traces),
            context={
                "task": f"chains of {LENGTH} operations modulo 10, {len(tests)} test questions, none in training",
                "model": f"Gemma 2, {sum(p.numel() for p in model.parameters()):,} parameters",
                "steps": ", ".join(f"{m.label} {max(1, round(m.steps * config.scale))}" for m in METHODS),
                "time": f"{minutes:.1f} minutes", "machine": machine(), "seed": str(config.seed), **versions(),
            },
            curves=curves,
        )  # fmt: skip
        page = write_report(report, out)
    console.print(results_table(report))
    console.print(report.verdict, markup=False)
    console.print(f"{minutes:.1f} minutes; report: {page}", markup=False)
    console.print(f'next: latent-gemma ask {out} "{tests[1].question}" --thoughts', markup=False)
    return report


def _worked(example: Example) -> str:
    return f"{example.question} steps {' '.join(example.steps)}, answer {example.answer}"
