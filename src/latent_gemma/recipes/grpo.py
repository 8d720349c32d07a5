"""`latent-gemma train grpo`: a model is improved by the rewards of its own completions; one run, or one per beta."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import set_seed

from latent_gemma.data.example import Example
from latent_gemma.data.kinds import COMPARED, answer_kind
from latent_gemma.data.load import load_examples
from latent_gemma.data.task_list import AnswerKind
from latent_gemma.engines.choice import Engine, engine_of
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.intervals import intervals_apart
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import Chart, EvalReport, EvalRow, Point
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.write import publish
from latent_gemma.launch import process_count
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Mode
from latent_gemma.options.stages import Grpo
from latent_gemma.origin import RECORD, write_origin
from latent_gemma.ranges import Range, parse_numbers
from latent_gemma.recipes.ending import held_out_rows, say_trained
from latent_gemma.recipes.resume import (
    Origin,
    Stopped,
    Unfinished,
    begin,
    finished_stage,
    resume_study,
    resumes,
    say_finished,
    say_stopped,
    step_size,
)
from latent_gemma.recipes.stage import (
    Parent,
    bad_rows,
    model_hash,
    run_folder,
    run_record,
    save_stage,
    say_options,
)
from latent_gemma.recipes.targets import match_of
from latent_gemma.recipes.words import ask_for, writing_mode
from latent_gemma.text.answers import Match
from latent_gemma.text.verify import MathVerifier
from latent_gemma.training.lora import quantization
from latent_gemma.training.run import FitResult
from latent_gemma.training.run_log import read_metrics


def run_grpo(config: Grpo) -> Path:
    """Train one run, or one per beta with a report on them.

    Args:
        config: its configuration.

    Returns:
        The model directory written, or the run folder if the run was stopped before its end; of a study the report.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    started_s = time.monotonic()
    engine = engine_of(config.train, config.lora)
    betas = parse_numbers(config.beta, float, "--beta", Range(0.0))
    if not betas:
        raise ConfigError(f"--beta {config.beta!r}", "give one or several, as in --beta 0,0.04,0.1")
    if len(betas) > 1:
        return _study(engine, config, betas, started_s)
    done = _run(engine, config, betas[0], config.out, started_s)
    if done is None:
        return say_finished(config.out)
    tokenizer, result = done
    if not result.finished:
        return say_stopped(config.out, result)
    say_trained(result.model, tokenizer, config, config.out, result, held_out_rows(config))
    return config.out / "model"


def _origin(config: Grpo, examples: Sequence[Example]) -> Origin:
    size = step_size(config.train.batch_size, config.train.accumulate)
    return Origin("grpo", config, config.train.seed, Parent.of(config.model), examples, size)


def _run(engine: Engine, config: Grpo, beta: float, out: Path, started_s: float) -> tuple[Any, FitResult] | None:
    """One run: the tokenizer and the result, stopped or finished; None if "auto" finds it finished."""
    spec = config.data.spec("train", config.train.seed)
    examples = load_examples(spec, bad_rows(config))
    kind = answer_kind(spec, examples)
    origin = _origin(replace(config, beta=f"{beta:g}", out=out), examples)
    with run_folder(out, config.resume != "no") as run:
        resume = resumes(run, config.resume, origin)
        if resume is None:
            return None
        set_seed(config.train.seed)
        model, tokenizer = load_model(config.model, quantization=quantization(config.lora))
        origin = replace(origin, parent=Parent.of(config.model))  # a hub model has been downloaded only now
        ask_for(model, config.format, config.system)
        mode = writing_mode(model.config.latent, config.mode)
        if mode == "latent" and config.grpo.vllm != "off":
            raise ConfigError(f"--vllm {config.grpo.vllm} with a latent model", "vLLM knows no thoughts: --vllm off")
        begin(run, origin)
        if out == config.out:  # else it is one of a study, which has said it
            say_options(origin.recipe, config)
        result = engine.fit_grpo(
            model, tokenizer, examples, config.reward.build(mode, kind), mode, config.train, config.grpo, run,
            config.lora, beta, title=f"grpo, beta {beta:g}", resume=resume, started_s=started_s,
            on_bad=bad_rows(config), brief=out != config.out,
        )  # fmt: skip
        if result.finished:
            save_stage(run, origin.record(), tokenizer, result)
            result.model.eval()
        return tokenizer, result


def _study(engine: Engine, config: Grpo, betas: Sequence[float], started_s: float) -> Path:
    if process_count() > 1:
        raise ConfigError(f"--beta {config.beta} in several processes", "launch one beta at a time")
    spec = config.data.spec("test", config.train.seed, config.eval_items)
    if not spec.keeps_test_rows:
        raise ConfigError(f"--beta {config.beta} with {spec.source}", "keep test rows back with --holdout 200")
    tests, page = load_examples(spec, bad_rows(config)), None
    kind: AnswerKind = "math" if config.reward.compares_math(answer_kind(spec, tests)) else "text"
    names = {beta: f"beta {beta:g}" for beta in betas}
    if len(set(names.values())) < len(betas):
        raise ConfigError(f"--beta {config.beta} names one twice", "give each once")
    with (
        run_folder(config.out, config.resume != "no"),
        Unfinished([*names.values()]) as unfinished,
        MathVerifier() as verifier,
    ):
        match = match_of(kind, verifier.equal)
        resume_study(config.out, config.resume, replace(_origin(config, tests), recipe="grpo, several beta"))
        say_options("grpo", config)
        started = load_model(config.model)
        ask_for(started[0], config.format, config.system)
        mode = writing_mode(started[0].config.latent, config.mode)
        rows = [_measure(*started, mode, tests, "before", config, match)]
        curves: dict[str, dict[str, tuple[Point, ...]]] = {"reward": {}, "kl": {}}
        for beta, label in names.items():
            out = config.out / f"beta-{beta:g}"
            done = _run(engine, replace(config, resume="auto"), beta, out, started_s)
            if done is None:
                model, tokenizer, _ = finished_stage(out)
            else:
                tokenizer, result = done
                if result.asked:
                    raise Stopped(label, result)
                model = result.model
            rows.append(_measure(model, tokenizer, mode, tests, label, config, match))
            unfinished.done(label)
            for entry in read_metrics(out / "metrics.jsonl"):
                for name, lines in curves.items():
                    if name in entry:
                        lines[label] = (*lines.get(label, ()), Point(entry["step"], entry[name]))
        record = run_record("grpo", config, config.train.seed)
        report = _study_report(config, betas, rows, curves, len(tests), kind, record)
        page = publish(report, config.out, Console())
        write_origin(config.out / RECORD, record)
    return page or config.out


def _study_report(
    config: Grpo, betas: Sequence[float], rows: Sequence[EvalRow], curves: dict[str, dict[str, tuple[Point, ...]]],
    items: int, kind: AnswerKind, record: dict[str, Any],
) -> EvalReport:  # fmt: skip
    before, *after = rows
    accuracy = tuple(Point(beta, row.accuracy, row.low, row.high) for beta, row in zip(betas, after, strict=True))
    start = tuple(Point(beta, before.accuracy, before.low, before.high) for beta in betas)
    over = "beta, weight of the KL divergence to the start"
    unit = "Accuracy in %, with 95 % Wilson intervals"
    charts = (
        Chart("accuracy_over_beta", "Accuracy after GRPO over beta", over, unit, {"after": accuracy, "before": start}),
        Chart("reward_over_steps", "Reward of the rollouts", "step", "Mean reward", curves["reward"], shares=False),
        Chart("kl_over_steps", "Divergence from the start", "step", "KL, nats per token", curves["kl"], shares=False),
    )
    steps = read_metrics(config.out / f"beta-{betas[-1]:g}" / "metrics.jsonl")[-1]["step"]
    return EvalReport(
        title=f"GRPO over beta: {Path(config.model).name} on {config.data.data}",
        verdict=_verdict(betas, before, after),
        rows=tuple(rows),
        context={
            "model": config.model,
            "model sha256": model_hash(config.model),
            "data": config.data.data,
            "answers compared": COMPARED[kind],
            "test questions": str(items),
            "steps": str(steps),
            "seed": str(config.train.seed),
            "machine": record["machine"],
            **record["versions"],
        },
        charts=tuple(chart for chart in charts if any(chart.lines.values())),
    )


def _verdict(betas: Sequence[float], before: EvalRow, after: Sequence[EvalRow]) -> str:
    """Which beta came out best, and which of the others this run cannot tell from it."""
    best = max(range(len(after)), key=lambda i: after[i].accuracy)
    alike = [f"{beta:g}" for i, beta in enumerate(betas) if i != best and not intervals_apart(after[i], after[best])]
    said = (
        f"beta {betas[best]:g} ends highest, at {with_interval(after[best])} %; "
        f"before the training it was {with_interval(before)} %."
    )
    if not alike:
        return f"{said} The intervals of all others lie below it."
    return f"{said} The intervals of {' and '.join(alike)} overlap with it: this run does not tell them apart."


def _measure(
    model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any,
    mode: Mode,
    tests: Sequence[Example],
    label: str,
    config: Grpo,
    match: Match,
) -> EvalRow:
    settings = EvalSettings(max_new_tokens=config.grpo.max_new_tokens, seed=config.train.seed, match=match)
    evaluator = Evaluator(model, tokenizer, tests, settings, label)
    return evaluator.measure(mode, k=evaluator.k if mode == "latent" else 0).row
