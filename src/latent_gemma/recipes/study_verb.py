"""`latent-gemma study`: every method from one base on one data set with the same budget, in one report."""

import contextlib
import math
import time
from dataclasses import replace

from rich.console import Console

from latent_gemma.data.example import Example
from latent_gemma.data.kinds import answer_kind
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.inspection.write import publish, write_report
from latent_gemma.launch import process_count
from latent_gemma.model.loading import TINY
from latent_gemma.model.tiny import build_tokenizer
from latent_gemma.options.study_options import StudyOptions
from latent_gemma.origin import RECORD, write_origin
from latent_gemma.ranges import MOST, SHARES, parse_numbers, parse_thoughts
from latent_gemma.recipes.methods import Budget, methods_of
from latent_gemma.recipes.resume import Origin, Unfinished, resume_study
from latent_gemma.recipes.stage import Parent, bad_rows, run_folder, run_record, say_options
from latent_gemma.recipes.study import Study, report_over_seeds, run_study
from latent_gemma.recipes.targets import match_of
from latent_gemma.text.answers import Match
from latent_gemma.text.verify import MathVerifier


def run_study_verb(config: StudyOptions) -> EvalReport | None:
    """Train, measure, print and write the reports.

    Args:
        config: see `StudyOptions`.

    Returns:
        The report, of several seeds the one over all, of the methods that are finished; None if the study was stopped.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the base that cannot be used.
    """
    started_s, console = time.monotonic(), Console()
    report: EvalReport | None = None
    if process_count() > 1:
        raise ConfigError("a study in several processes", "launch it in one")
    seeds = config.all_seeds
    folders = {seed: config.out / f"seed-{seed}" for seed in seeds}
    with MathVerifier() as verifier:
        with console.status("reading the data"):  # a minute for graphs that are drawn until one has a question
            study = study_of(config, verifier.equal)
        with (
            run_folder(config.out, config.resume != "no") as out,
            Unfinished(study.labels(seeds)) as unfinished,
        ):
            origin = Origin("study", config, seeds[0], Parent.of(config.model), study.train(MOST))
            resume_study(out, config.resume, origin)
            say_options("study", config)
            try:
                found = run_study(study, folders, 1.0, unfinished, console, started_s)
            finally:
                for folder in folders.values():  # that of a seed whose first run could not begin
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            if found:
                report = next(iter(found.values())).report
                if len(seeds) > 1:
                    report = report_over_seeds(found)
                    for seed, result in found.items():
                        write_report(result.report, folders[seed])
                publish(report, out, console)
            if not unfinished.left:
                write_origin(out / RECORD, run_record("study", config, seeds[0]))
    return report


def study_of(config: StudyOptions, equal: Match) -> Study:
    """Read the data, and plan what is trained.

    Args:
        config: see `StudyOptions`.
        equal: how mathematical answers are compared.

    Returns:
        The study.

    Raises:
        LatentGemmaError: for anything in the configuration or the data that cannot be used.
    """
    methods_of(config.names, Budget(1, 1, 1))  # a name that is wrong is told before any data is read
    spec = config.data.spec("test", config.train.seed, config.items)
    if not spec.keeps_test_rows:
        raise ConfigError(f"a study of {spec.source} without questions", "keep test rows back with --holdout 500")
    rows = _training_rows(config)
    size = config.train.batch_size * config.train.accumulate
    steps = config.train.steps or math.ceil(len(rows) * config.train.epochs / size)
    longest = max(len(row.steps) for row in rows)
    if not longest and not config.max_latent_steps:
        raise ConfigError(
            f"{spec.source} has no written steps to count thoughts by", "say how many: --max-latent-steps 4"
        )
    # Without steps there are no tokens of theirs to stand for.
    c_thought = config.latent.c_thought if longest or config.latent.c_thought != "tokens" else 1
    budget = Budget(config.text_steps or steps, steps, longest, config.max_latent_steps, c_thought, config.next_only)
    tests = load_examples(spec, bad_rows(config))
    further = replace(config.data, data=config.ood, holdout=0).spec("test", config.train.seed, config.items)
    kind = answer_kind(spec, tests) if config.answer_kind == "auto" else config.answer_kind
    return Study(
        name="study",
        title=f"{config.model} on {spec.source} by every method",
        task=_task(spec),
        methods=methods_of(config.names, budget),
        train=lambda count: rows[:count] if spec.is_generated else rows,
        tests=tests,
        settings=config.train,
        num_thoughts=budget.most * budget.fixed,
        max_new_tokens=config.max_new_tokens,
        model=config.model,
        tokenizer=build_tokenizer(config.tiny_words) if config.model == TINY else None,
        sizes=config.sizes,
        step_separator=config.step_separator,
        c_thought=c_thought,
        latent=vars(config.latent) | {"c_thought": c_thought},
        lora=config.lora,
        ks=parse_thoughts(config.k, "--k"),
        ps=parse_numbers(config.p, float, "--p", SHARES),
        further={config.ood: load_examples(further, bad_rows(config))} if config.ood else {},
        controls=config.controls,
        batch_size=config.eval_batch_size,
        match=match_of(kind, equal),
        on_bad=bad_rows(config),
    )


def _training_rows(config: StudyOptions) -> list[Example]:
    """All rows that methods learn from: of a generator as many as the longest training sees, unless --limit says."""
    size = config.train.batch_size * config.train.accumulate
    steps = (config.text_steps or config.train.steps) + config.train.steps
    spec = config.data.spec("train", config.train.seed)
    if spec.is_generated and spec.limit is None and config.train.steps:
        spec = replace(spec, limit=steps * size)
    return load_examples(spec, bad_rows(config))


def _task(spec: DataSpec) -> str:
    return f"generated by {spec.source}" if spec.is_generated else f"held-out rows of {spec.source}"
