"""A study: every method from one base on the same questions, measured with its controls, in one report a seed."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import set_seed

from latent_gemma.choices import Controls, NumThoughts, ThoughtsPerStep
from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.items import Item
from latent_gemma.evaluation.log import open_log
from latent_gemma.evaluation.points import EvalSettings, too_long
from latent_gemma.evaluation.results import EvalReport, EvalRow, Grid, ThoughtTrace
from latent_gemma.evaluation.timing import sample_size, time_in_turns, with_times
from latent_gemma.inspection.comparison import best_grid, choose, cost_charts, paired_grid
from latent_gemma.inspection.lens import both_kinds, trace_examples
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.seeds import over_seeds
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import further_grid
from latent_gemma.inspection.verdict import uses_thoughts, verdict
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import TINY, load_model
from latent_gemma.model.prompt import Frame, Mode, own_mode
from latent_gemma.model.tiny import build_tiny
from latent_gemma.origin import RECORD
from latent_gemma.recipes.methods import Method
from latent_gemma.recipes.resume import Origin, Stopped, Unfinished, begin, finished_stage, resumes, step_size
from latent_gemma.recipes.stage import (
    Parent,
    digest,
    machine,
    model_hash,
    run_folder,
    save_stage,
    training_curves,
)
from latent_gemma.recipes.study_clock import StudyClock
from latent_gemma.text.answers import Match, answers_match
from latent_gemma.text.columns import spoken
from latent_gemma.text.display import displayable
from latent_gemma.training.batches import OnBad
from latent_gemma.training.fit import fit
from latent_gemma.training.lora import quantization
from latent_gemma.training.run import FitResult
from latent_gemma.training.settings import LoraSettings, TrainSettings
from latent_gemma.versions import versions

#: Training rows that tell how long written steps are.
_SAMPLE = 1000


@dataclass(frozen=True)
class Study:
    """What is trained and measured.

    Args:
        name: of the recipe, written into every run.
        title: heading of the report.
        task: the questions, in a few words.
        methods: in the order of training.
        train: number of rows at most -> training rows.
        tests: the questions everything is measured on, none of them among those.
        settings: the optimisation; steps are the methods' own, the seed is the run's, `max_hours` is of all of them.
        num_thoughts: K that the methods that think begin with; training says what they end with.
        max_new_tokens: bound on generated tokens.
        model: the base that every method without a parent starts from, as `load_model` takes it; "tiny" is a fresh one
            for each seed.
        tokenizer: of a tiny base; others have their own.
        sizes: of a tiny base, as `build_tiny` takes them.
        step_separator: text after each written step.
        c_thought: latent steps for each written one.
        latent: further fields of the latent configuration of the methods that think.
        lora: low-rank adaptation of every stage, merged at its end; where thoughts alone train, of the text stage.
        ks: numbers of latent steps to try besides.
        ps: shares of the token to try besides.
        further: name -> questions of another kind on which the main setting is measured too.
        controls: of the methods that think; see `EvalSettings`.
        batch_size: questions answered at once.
        match: how answers are compared.
        on_bad: told of training rows that cannot be used; None ends at the first.
    """

    name: str
    title: str
    task: str
    methods: tuple[Method, ...]
    train: Callable[[int], list[Example]]
    tests: Sequence[Example]
    settings: TrainSettings
    num_thoughts: int
    max_new_tokens: int
    model: str = TINY
    tokenizer: Any = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    step_separator: str = ""
    c_thought: ThoughtsPerStep = 1
    latent: Mapping[str, Any] = field(default_factory=dict)
    lora: LoraSettings = field(default_factory=LoraSettings)
    ks: tuple[NumThoughts, ...] = ()
    ps: tuple[float, ...] = ()
    further: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    controls: Controls = "basic"
    batch_size: int = 250
    match: Match = answers_match
    on_bad: OnBad | None = None

    def labels(self, seeds: Sequence[int]) -> list[str]:
        """The runs of a study by name, in their order: the methods, of several seeds each with its seed."""
        return [run_name(method, seed, seeds) for seed in seeds for method in self.methods]


def run_name(method: Method, seed: int, seeds: Sequence[int]) -> str:
    """A run as people read it: its method, and its seed where there are several."""
    return f"{method.label}, seed {seed}" if len(seeds) > 1 else method.label


@dataclass(frozen=True)
class SeedResult:
    """What a study found with one seed.

    Args:
        report: of it, not yet written.
        items: method -> its answers in the main setting.
        seconds: that training and measuring took.
    """

    report: EvalReport
    items: Mapping[str, Sequence[Item]]
    seconds: float


@dataclass
class _Found:
    """What has been measured so far of a seed."""

    rows: list[EvalRow] = field(default_factory=list)
    items: dict[str, list[Item]] = field(default_factory=dict)
    traces: list[ThoughtTrace] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    training: list[tuple[str, ...]] = field(default_factory=list)
    further: dict[str, list[EvalRow]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    timed: dict[str, Callable[[], Callable[[], float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class StageConfig:
    """What one method's run was trained with, as its run.json holds it."""

    method: Method
    train: TrainSettings
    latent: LatentConfig
    lora: LoraSettings
    model: str
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class _Run:
    """One method with one seed."""

    study: Study
    method: Method
    seed: int
    models: Path
    name: str
    scale: float

    @property
    def folder(self) -> Path:
        return self.models / self.method.folder

    @property
    def parent(self) -> Path | None:
        """The run folder that it goes on from."""
        folders = {method.label: method.folder for method in self.study.methods}
        return self.models / folders[self.method.parent] if self.method.parent else None

    @property
    def steps(self) -> int:
        return max(1, round(self.method.steps * self.scale)) if self.method.curriculum else 0

    @property
    def is_trained(self) -> bool:
        return self.steps == 0 or (self.folder / RECORD).is_file()

    @property
    def settings(self) -> TrainSettings:
        return replace(self.study.settings, steps=self.steps, seed=self.seed)

    @property
    def measured(self) -> EvalSettings:
        study = self.study
        return EvalSettings(
            ks=study.ks, ps=study.ps, controls=study.controls if self.method.thinks else "none",
            batch_size=study.batch_size, max_new_tokens=study.max_new_tokens, seed=self.seed, match=study.match,
        )  # fmt: skip

    @property
    def lora(self) -> LoraSettings:
        alone = self.method.thinks and self.study.latent.get("trains") == "thoughts"
        return LoraSettings() if alone else self.study.lora

    @property
    def latent(self) -> dict[str, Any]:
        """The latent configuration it is trained with, as far as it says one."""
        study, thinks = self.study, self.method.thinks
        return {
            "num_thoughts": study.num_thoughts if thinks else 0,
            "c_thought": study.c_thought,
            "step_separator": study.step_separator,
            "words_format": "markers",
            "embed_rms": None,  # measured anew: the stage before has moved the embeddings
            **(study.latent if thinks else {}),
            **self.method.latent,
        }


def run_study(
    study: Study, folders: Mapping[int, Path], scale: float, unfinished: Unfinished, console: Console,
    started_s: float | None = None,
) -> dict[int, SeedResult]:  # fmt: skip
    """Train and measure every method with every seed.

    Args:
        study: which; its settings hold `max_hours`, in which each run that is left has an equal share.
        folders: seed -> folder of its runs, one folder a method; methods that are finished there are not trained
            again, and one that was stopped goes on.
        scale: multiplies the number of training steps.
        unfinished: of `Study.labels`; told of each run that is done. What was cut at the end of its hours is left.
        console: shows what comes next.
        started_s: `time.monotonic()` when the session began, from which `max_hours` counts; None takes now.

    Returns:
        Seed -> what was found; a seed without a measured method is left out.

    Raises:
        Stopped: if a method was told to stop while it trained.
        RunError: if a method was begun with other settings.
    """
    seeds = list(folders)
    runs = [
        _Run(study, method, seed, folders[seed], run_name(method, seed, seeds), scale)
        for seed in seeds
        for method in study.methods
    ]
    clock = StudyClock(
        {run.name: 0 if run.is_trained else run.steps for run in runs},
        time.monotonic() if started_s is None else started_s, study.settings.max_hours,
    )  # fmt: skip
    found = {seed: _Found() for seed in seeds}
    for run in runs:
        clock.begins()
        if _carry_out(run, found[run.seed], console, clock):
            unfinished.done(run.name)
        clock.ends(run.name)
    for one in found.values():
        with console.status("timing answers"):
            one.rows = with_times(one.rows, time_in_turns(one.timed, one.seconds))
    return {
        seed: SeedResult(_report(study, seed, one), one.items, one.seconds) for seed, one in found.items() if one.rows
    }


def _carry_out(run: _Run, found: _Found, console: Console, clock: StudyClock) -> bool:
    """Train and measure one run; no model outlives it. False if its time was up."""
    done = _train(run, clock)
    if done is not None:
        _note(run, found, *done, console, clock.place)
    return done is not None


def _train(run: _Run, clock: StudyClock) -> tuple[Any, Any, FitResult] | None:
    """Train one method and save it as a stage; one that is finished there is loaded, one that was stopped goes on.

    Returns:
        The model, its tokenizer and how it was trained; None if its time, or its parent's, was up.
    """
    study, method = run.study, run.method
    if run.parent is not None and not (run.parent / RECORD).is_file():
        return None
    if method.curriculum is None:
        return _finished(run)
    hours, settings = clock.share_hours(), run.settings
    if hours == 0.0 and not run.is_trained:
        return None
    parent = Parent.of(study.model if run.parent is None else str(run.parent))
    examples = study.train(settings.steps * settings.batch_size * settings.accumulate)
    config = StageConfig(method, settings, LatentConfig(**run.latent), run.lora, study.model, study.sizes)
    size = step_size(settings.batch_size, settings.accumulate)
    origin = Origin(study.name, config, run.seed, parent, examples, size)
    with run_folder(run.folder, resume=True):
        resume = resumes(run.folder, "auto", origin)
        if resume is None:
            return _finished(run)
        model, tokenizer = _start(run, parent)
        if run.parent is None:
            _refuse_long(study, model, tokenizer)
        if not parent.sha256:  # a hub model has been downloaded only now
            origin = replace(origin, parent=Parent.of(parent.name))
        begin(run.folder, origin)
        result = fit(
            model, tokenizer, examples, method.curriculum, replace(settings, max_hours=hours), run.folder,
            f"{clock.place}: {run.name}", run.lora, resume, time.monotonic(), study.on_bad, brief=True,
        )  # fmt: skip
        clock.trained(result.steps)
        if result.finished:
            save_stage(run.folder, origin.record(), tokenizer, result)
        if result.asked and not result.time_is_up:
            raise Stopped(run.name, result)
    return (result.model, tokenizer, result) if result.finished else None


def _start(run: _Run, parent: Parent) -> tuple[Any, Any]:
    """The model that a run begins with, and its tokenizer."""
    study = run.study
    if run.parent is None and study.model == TINY:
        sizes = {"vocab_size": len(study.tokenizer), **study.sizes}
        model = build_tiny("gemma2", LatentConfig(**run.latent), seed=run.seed, **sizes)
        return model, study.tokenizer
    set_seed(run.seed)  # weights that are new are drawn while loading
    quantized = quantization(run.lora) if run.lora.rank else None
    return load_model(parent.name, run.latent, quantization=quantized)


def _refuse_long(study: Study, model: LatentReasoningGemmaForCausalLM, tokenizer: Any) -> None:
    """Refuse questions that no method could be asked, before the first is trained."""
    for number, said in too_long(model, tokenizer, study.tests, "latent", study.num_thoughts, "same").items():
        raise DataError(f"{study.task}, test question {number + 1}: {said}", "leave it out of the data")


def _finished(run: _Run) -> tuple[Any, Any, FitResult]:
    return finished_stage(run.folder) if run.method.curriculum else _asked_otherwise(run)


def _asked_otherwise(run: _Run) -> tuple[Any, Any, FitResult]:
    """The parent's model, to be asked in a way that it was not trained for."""
    model, tokenizer = load_model(str(run.parent))
    frame = Frame(tokenizer, model.config.latent)
    rows = run.study.train(_SAMPLE)[:_SAMPLE]
    separator = frame.latent.step_separator
    longest = max(sum(len(frame.text_ids(step + separator)) for step in row.steps) for row in rows)
    model.set_latent(num_thoughts=longest, **run.method.latent)
    return model, tokenizer, FitResult(model, [], 0.0, True, 0)


def _note(
    run: _Run,
    found: _Found,
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    result: FitResult,
    console: Console,
    place: str,
) -> None:
    """Note how a run was trained, and measure it."""
    started, label = time.monotonic(), run.method.label
    shown = training_curves(result.metrics, f"{label}: ")
    found.curves |= {name: points for name, points in shown.items() if not name.startswith(f"{label}: K,")}
    losses = [entry["answer_loss"] for entry in result.metrics if "answer_loss" in entry]
    last = f"{losses[-1]:.3f}" if losses else "–"
    start = run.method.parent or ("random weights" if run.study.model == TINY else run.study.model)
    found.training.append((label, start, str(result.steps), f"{result.seconds:.0f}", last))
    found.notes |= {f"{label}, note": " ".join(result.notes)} if result.notes else {}
    found.parameters = sum(parameter.numel() for parameter in model.parameters())
    if run.method.measured:
        with console.status("") as status:
            _measure(run, model, tokenizer, found, lambda text: status.update(f"{place}: measuring {text}"))
        right = f"; right on {with_interval(main_rows(found.rows)[label])} % of the questions"
    else:
        right = ""
    ended = f"loss {last}, " if losses else ""
    said = f"{run.name}: {ended}{spoken(result.seconds)}{right}"
    console.print(displayable(said), markup=False, style="dim")
    found.seconds += result.seconds + time.monotonic() - started


def _measure(
    run: _Run, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, found: _Found, say: Callable[[str], None]
) -> None:
    study, method, latent = run.study, run.method, model.config.latent
    settings = run.measured
    mode = method.asked or own_mode(latent)
    weights = run.folder if method.curriculum else run.parent
    origin = {
        "weights of model": model_hash(str(weights)),
        "latent configuration": json.dumps(latent.to_dict()),
        "data": digest(study.tests),
        "batch size": str(study.batch_size), "max new tokens": str(study.max_new_tokens), "seed": str(run.seed),
    }  # fmt: skip
    with run_folder(run.folder, resume=True) as folder:
        evaluator = Evaluator(model, tokenizer, study.tests, settings, method.label, open_log(folder, origin))
        measured = evaluator.run(say, mode)
    found.rows += [each.row for each in measured]
    found.items[method.label] = measured[0].items
    found.timed[method.label] = lambda: _asker(run, mode)
    for name, tests in study.further.items():
        say(f"{method.label} on {name}")
        further = Evaluator(model, tokenizer, tests, settings, method.label)
        k = latent.own_thoughts if mode == "latent" else 0
        found.further.setdefault(name, []).append(further.measure(mode, k).row)
    if method.thinks and mode == "latent":
        shown = [study.tests[at] for at in both_kinds([item.correct for item in measured[0].items], 4)]
        found.traces += trace_examples(model, tokenizer, shown, method.label, study.max_new_tokens, match=study.match)


def _asker(run: _Run, mode: Mode) -> Callable[[], float]:
    """Load a method that is finished, to be asked the questions that time it."""
    (model, tokenizer, _), study = _finished(run), run.study
    count = sample_size(len(study.tests), study.batch_size)
    evaluator = Evaluator(model, tokenizer, study.tests, run.measured, run.method.label)
    return lambda: evaluator.seconds(mode, study.tests[:count])


def _report(study: Study, seed: int, found: _Found) -> EvalReport:
    """What was found with one seed."""
    note = (
        f"Batches of {study.settings.batch_size * study.settings.accumulate}, peak learning rate "
        f"{study.settings.lr:g}; losses in nats per token."
    )
    training = Grid("Training", ("method", "from", "steps", "seconds", "last loss"), tuple(found.training), note)
    mains, paired = main_rows(found.rows), paired_grid(found.items)
    against = best_grid(found.items) if len(found.items) > 2 else ()  # of two methods the pairs say it
    choice, reason = pick(found.rows, [found.items])
    missing = [method.label for method in study.methods if method.measured and method.label not in mains]
    kind = "Gemma 2" if study.model == TINY else study.model
    return EvalReport(
        title=study.title,
        choice=choice,
        reason=reason,
        verdict=verdict(found.rows),
        rows=tuple(found.rows),
        traces=tuple(found.traces),
        context={
            "task": f"{study.task}, {len(study.tests)} test questions, none in training",
            "model": f"{kind}, {found.parameters:,} parameters",
            **({"sizes": ", ".join(f"{name} {size}" for name, size in study.sizes.items())} if study.sizes else {}),
            **found.notes,
            **({"not finished, and not reported": ", ".join(missing)} if missing else {}),
            "time": _minutes(found.seconds), "machine": machine(), "seed": str(seed), **versions(),
        },
        curves=found.curves,
        tables=(
            training, *further_grid(found.rows, found.further), *against, *([] if paired is None else [paired])
        ),
        charts=cost_charts(mains),
    )  # fmt: skip


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"


def report_over_seeds(results: Mapping[int, SeedResult]) -> EvalReport:
    """One report of a study with several seeds.

    Args:
        results: seed -> what was found.

    Returns:
        As `over_seeds`; which method to pick is found anew, from the questions that each answers rightly with most
        seeds, for answers to one question under several seeds are not independent.
    """
    whole = over_seeds([result.report for result in results.values()], list(results))
    choice, reason = pick(whole.rows, [result.items for result in results.values()])
    context = whole.context | {"time": _minutes(sum(result.seconds for result in results.values()))}
    return replace(whole, choice=choice, reason=reason, context=context, charts=cost_charts(main_rows(whole.rows)))


def pick(rows: Sequence[EvalRow], items: Sequence[Mapping[str, Sequence[Item]]]) -> tuple[str, str]:
    """Which method to pick and why.

    Args:
        rows: of the report.
        items: of each seed, method -> its answers in the main setting.

    Returns:
        See `choose`.
    """
    mains = main_rows(rows)
    unused = {label for label, row in mains.items() if uses_thoughts(rows, row) is False}
    of_seeds = {label: [each[label] for each in items if label in each] for label in mains}
    answers = {label: [_by_most(group) for group in zip(*each, strict=True)] for label, each in of_seeds.items()}
    return choose(mains, answers, unused)


def _by_most(items: Sequence[Item]) -> Item:
    """The answers of all seeds to one question as one: right if more than half of them are."""
    return replace(items[0], correct=2 * sum(item.correct for item in items) > len(items))
