"""A study: tiny models, one a method, trained on the same task and measured with their controls in one report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.example import Example
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid, ThoughtTrace
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.verdict import verdict
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import own_mode
from latent_gemma.model.tiny import build_tiny
from latent_gemma.recipes.resume import Origin, Stopped, Unfinished, begin, finished_stage, resumes, step_size
from latent_gemma.recipes.stage import Parent, machine, run_folder, save_stage, training_curves
from latent_gemma.training.curriculum import Curriculum, WrittenCurriculum
from latent_gemma.training.fit import fit
from latent_gemma.training.run import FitResult
from latent_gemma.training.settings import TrainSettings
from latent_gemma.versions import versions


@dataclass(frozen=True)
class Method:
    """One method, a stage of training.

    Args:
        label: its name in tables; "words" and "no reasoning" are what the verdict compares with.
        parent: label of the method whose model it goes on from; None starts from random weights.
        curriculum: what is latent, and when.
        steps: optimiser steps.
        pool: which of the study's pools of training rows it learns from.
        lr: its peak learning rate; None takes the study's.
        measured: whether the report shows it; a warm-up for others is not shown.
    """

    label: str
    parent: str | None
    curriculum: Curriculum
    steps: int
    pool: str = ""
    lr: float | None = None
    measured: bool = True

    @property
    def thinks(self) -> bool:
        """Whether it takes latent steps."""
        return not isinstance(self.curriculum, WrittenCurriculum)

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return self.label.lower().replace(", ", "-").replace(" ", "-")


@dataclass(frozen=True)
class Study:
    """What is trained and measured.

    Args:
        name: of the recipe, written into every run.
        title: heading of the report.
        task: the questions, in a few words.
        methods: in the order of training.
        train: pool, number of rows at most -> training rows.
        tests: the questions everything is measured on, none of them in a pool.
        tokenizer: of all models.
        settings: the optimisation; steps are the methods' own, the seed is the run's.
        sizes: of the models, as `build_tiny` takes them.
        num_thoughts: K of the methods that think.
        max_new_tokens: bound on generated tokens.
        c_thought: latent steps for each written one.
        ks: numbers of latent steps to try besides.
        ps: shares of the token to try besides.
        further: name -> questions of another kind on which the main setting is measured too.
        batch_size: questions answered at once.
    """

    name: str
    title: str
    task: str
    methods: tuple[Method, ...]
    train: Callable[[str, int], list[Example]]
    tests: Sequence[Example]
    tokenizer: Any
    settings: TrainSettings
    sizes: Mapping[str, int]
    num_thoughts: int
    max_new_tokens: int
    c_thought: int = 1
    ks: tuple[int, ...] = ()
    ps: tuple[float, ...] = ()
    further: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    batch_size: int = 250


@dataclass
class _Found:
    """What has been measured so far."""

    rows: list[EvalRow] = field(default_factory=list)
    traces: list[ThoughtTrace] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    training: list[tuple[str, ...]] = field(default_factory=list)
    further: list[tuple[str, ...]] = field(default_factory=list)
    parameters: int = 0


@dataclass(frozen=True)
class StageConfig:
    """What one method's run was trained with, as its run.json holds it."""

    method: Method
    train: TrainSettings
    latent: LatentConfig
    sizes: Mapping[str, int]


def run_study(
    study: Study, models: Path, seed: int, scale: float, unfinished: Unfinished, console: Console,
    started_s: float | None = None,
) -> EvalReport:  # fmt: skip
    """Train and measure every method.

    Args:
        study: which; its settings hold `max_hours`.
        models: folder of the runs, one folder a method; methods that are finished there are not trained again, and one
            that was stopped goes on.
        seed: of the weights and the training.
        scale: multiplies the number of training steps.
        unfinished: the methods' labels; told of each that is done.
        console: shows what comes next.
        started_s: `time.monotonic()` when the session began, from which `max_hours` counts; None takes now.

    Returns:
        The report, not yet written.

    Raises:
        Stopped: if a method was told to stop while it trained.
        RunError: if a method was begun with other settings.
    """
    found, seconds = _Found(), 0.0
    started_s = time.monotonic() if started_s is None else started_s
    for method in study.methods:
        model, result = _train(study, method, models, seed, scale, started_s)
        started = time.monotonic()
        shown = training_curves(result.metrics, f"{method.label}: ")
        found.curves |= {name: points for name, points in shown.items() if "K" not in name.split(": ")[1]}
        losses = [entry["answer_loss"] for entry in result.metrics if "answer_loss" in entry]
        last = f"{losses[-1]:.3f}" if losses else "–"
        found.training.append(
            (method.label, method.parent or "random weights", str(result.steps), f"{result.seconds:.0f}", last)
        )
        found.parameters = sum(parameter.numel() for parameter in model.parameters())
        if method.measured:
            with console.status("") as status:
                _measure(study, method, model, seed, found, status)
        seconds += result.seconds + time.monotonic() - started
        unfinished.done(method.label)
    note = (
        f"Batches of {study.settings.batch_size}, peak learning rate {study.settings.lr:g}; losses in nats per token."
    )
    tables = [Grid("Training", ("method", "from", "steps", "seconds", "last loss"), tuple(found.training), note)]
    if found.further:
        header = ("method", *(f"{name} (n = {len(rows)})" for name, rows in study.further.items()))
        note = "Accuracy in % with its 95 % Wilson interval, at the main setting."
        tables.append(Grid("Questions of another kind", header, tuple(found.further), note))
    return EvalReport(
        title=study.title,
        verdict=verdict(found.rows),
        rows=tuple(found.rows),
        traces=tuple(found.traces),
        context={
            "task": f"{study.task}, {len(study.tests)} test questions, none in training",
            "model": f"Gemma 2, {found.parameters:,} parameters",
            "sizes": ", ".join(f"{name} {size}" for name, size in study.sizes.items()),
            "time": f"{seconds / 60:.1f} minutes", "machine": machine(), "seed": str(seed), **versions(),
        },
        curves=found.curves,
        tables=tuple(tables),
    )  # fmt: skip


def _train(
    study: Study, method: Method, models: Path, seed: int, scale: float, started_s: float
) -> tuple[Any, FitResult]:
    """Train one method and save it as a stage; one that is finished there is loaded, one that was stopped goes on."""
    run = models / method.folder
    steps, lr = max(1, round(method.steps * scale)), method.lr or study.settings.lr
    settings = replace(study.settings, steps=steps, lr=lr, seed=seed)
    latent: dict[str, Any] = {
        "num_thoughts": study.num_thoughts if method.thinks else 0,
        "c_thought": study.c_thought,
        "step_separator": "",
        "embed_rms": None,
    }
    folders = {other.label: other.folder for other in study.methods}
    parent = Parent.of(str(models / folders[method.parent])) if method.parent else Parent("a fresh tiny Gemma 2")
    examples = study.train(method.pool, settings.steps * settings.batch_size)
    config = StageConfig(method, settings, LatentConfig(**latent), study.sizes)
    size = step_size(settings.batch_size, settings.accumulate)
    origin = Origin(study.name, config, seed, parent, examples, size)
    with run_folder(run, resume=True):
        resume = resumes(run, "auto", origin)
        if resume is None:
            model, _, result = finished_stage(run)
            return model, result
        if method.parent is None:
            tokenizer = study.tokenizer
            sizes = {"vocab_size": len(tokenizer), **study.sizes}
            model = build_tiny("gemma2", LatentConfig(**latent), seed=seed, **sizes)
        else:
            model, tokenizer = load_model(parent.name, latent)
        begin(run, origin)
        result = fit(
            model, tokenizer, examples, method.curriculum, settings, run, f"{method.label:>12}", resume=resume,
            started_s=started_s,
        )  # fmt: skip
        if result.finished:
            save_stage(run, origin.record(), tokenizer, result)
        if result.asked:
            raise Stopped(method.label, result)
    return model, result


def _measure(study: Study, method: Method, model: Any, seed: int, found: _Found, status: Any) -> None:
    settings = EvalSettings(
        ks=study.ks, ps=study.ps, controls=method.thinks, batch_size=study.batch_size,
        max_new_tokens=study.max_new_tokens, seed=seed,
    )  # fmt: skip
    mode, k = own_mode(model.config.latent), model.config.latent.num_thoughts
    cells = []
    for name, tests in {"": study.tests, **study.further}.items():
        evaluator = Evaluator(model, study.tokenizer, tests, settings, method.label)
        if name:
            cells.append(with_interval(evaluator.measure(mode, k).row))
        else:
            found.rows += [measured.row for measured in evaluator.run(lambda text: status.update(f"measuring {text}"))]
    if cells:
        found.further.append((method.label, *cells))
    if method.thinks:
        found.traces += trace_examples(model, study.tokenizer, study.tests[:4], method.label, study.max_new_tokens)
