"""`latent-gemma train grpo`: a model is improved by the rewards of its own completions; one run, or one per beta."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from rich.console import Console
from transformers import set_seed

from latent_gemma.config import parse_numbers
from latent_gemma.data.example import Example
from latent_gemma.data.load import load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.intervals import intervals_apart
from latent_gemma.evaluation.planning import EvalSettings
from latent_gemma.evaluation.results import Chart, EvalReport, EvalRow, Point
from latent_gemma.inspection.numbers import with_interval
from latent_gemma.inspection.tables import results_table
from latent_gemma.inspection.write import write_report
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Mode
from latent_gemma.recipes.stage import (
    Parent,
    machine,
    model_hash,
    resumes,
    run_folder,
    save_stage,
    say_stopped,
    versions,
)
from latent_gemma.recipes.train import Common
from latent_gemma.recipes.words import ask_for, writing_mode
from latent_gemma.training.callbacks import read_metrics
from latent_gemma.training.grpo import GrpoSettings, fit_grpo
from latent_gemma.training.lora import quantization
from latent_gemma.training.rewarding import RewardSettings
from latent_gemma.training.running import FitResult
from latent_gemma.training.settings import LoraSettings, TrainSettings


@dataclass(frozen=True)
class Grpo(Common):
    """GRPO: completions of a group are compared by their rewards, and the better ones become more likely.

    Start from a text stage that is right now and then (`train sft --format tags`), or from a latent model: its
    thoughts are in the prompt, and the gradients of its answers reach them.

    Args:
        train: the optimisation; `batch_size` counts completions, a multiple of `num_generations` with `accumulate`.
        beta: weight of the KL divergence to the start, or several ("0,0.04,0.1") for a study: one run each, measured
            on the test split, with a report.
        mode: "auto" thinks if the model was trained to, and writes its reasoning otherwise.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        eval_items: test questions each run of a study is measured on.
        grpo: what is particular to GRPO.
        reward: what a completion is worth.
        lora: low-rank adaptation, kept as an adapter and merged at the end; rank 0 trains all weights.
    """

    train: TrainSettings = field(default_factory=lambda: TrainSettings(batch_size=16, lr=1e-5))
    beta: str = "0.04"
    mode: Literal["auto", "latent", "words"] = "auto"
    format: WordsFormat | None = None
    system: str | None = None
    eval_items: int = 200
    grpo: GrpoSettings = field(default_factory=GrpoSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)


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
    betas = parse_numbers(config.beta, float, "--beta")
    if not betas or any(beta < 0 for beta in betas):
        raise ConfigError(f"--beta {config.beta}", "give 0 or more, several as in --beta 0,0.04,0.1")
    examples = load_examples(config.data.spec("train", config.train.seed))
    if len(betas) > 1:
        with run_folder(config.out, config.resume != "no"):
            return _study(config, betas, examples, started_s)
    result = _run(config, betas[0], config.out, examples, started_s)
    if isinstance(result, FitResult):
        return say_stopped(config.out, result)
    return config.out / "model"


def _run(
    config: Grpo, beta: float, out: Path, examples: Sequence[Example], started_s: float
) -> tuple[Any, Any] | FitResult | None:
    """One run; the trained model with its tokenizer, the result of a run that was stopped, or None if "auto" finds it
    finished."""
    resume = resumes(out, config.resume)
    if resume is None:
        return None
    with run_folder(out, config.resume != "no") as run:
        set_seed(config.train.seed)
        model, tokenizer = load_model(config.model, quantization=quantization(config.lora))
        parent = Parent.of(config.model)
        ask_for(model, config.format, config.system)
        mode = writing_mode(model.config.latent, config.mode)
        if mode == "latent" and config.grpo.vllm != "off":
            raise ConfigError(f"--vllm {config.grpo.vllm} with a latent model", "vLLM knows no thoughts: --vllm off")
        result = fit_grpo(
            model, tokenizer, examples, config.reward.build(mode), mode, config.train, config.grpo, run, config.lora,
            beta, title=f"grpo, beta {beta:g}", resume=resume, started_s=started_s,
        )  # fmt: skip
        if not result.finished:
            return result
        save_stage(run, "grpo", result.model, tokenizer, replace(config, beta=f"{beta:g}"), parent, result,
                   config.train.seed)  # fmt: skip
        return result.model.eval(), tokenizer


def _study(config: Grpo, betas: Sequence[float], examples: Sequence[Example], started_s: float) -> Path:
    if PartialState().num_processes > 1:
        raise ConfigError(f"--beta {config.beta} in several processes", "launch one beta at a time")
    spec = config.data.spec("test", config.train.seed, config.eval_items)
    if not (spec.is_generated or spec.is_hub_name or spec.holdout):
        raise ConfigError(f"--beta {config.beta} with {spec.source}", "keep test rows back with --holdout 200")
    tests = load_examples(spec)
    started = load_model(config.model)
    ask_for(started[0], config.format, config.system)
    mode = writing_mode(started[0].config.latent, config.mode)
    rows = [_measure(*started, mode, tests, "before", config)]
    curves: dict[str, dict[str, tuple[Point, ...]]] = {"reward": {}, "kl": {}}
    for beta in betas:
        label, out = f"beta {beta:g}", config.out / f"beta-{beta:g}"
        done = _run(config, beta, out, examples, started_s)
        if isinstance(done, FitResult):
            return say_stopped(out, done)
        model, tokenizer = done or load_model(str(out))
        rows.append(_measure(model, tokenizer, mode, tests, label, config))
        for entry in read_metrics(out / "metrics.jsonl"):
            for name, lines in curves.items():
                if name in entry:
                    lines[label] = (*lines.get(label, ()), Point(entry["step"], entry[name]))
    report = _study_report(config, betas, rows, curves, len(tests))
    console = Console()
    console.print(results_table(report))
    console.print(report.verdict, markup=False)
    page = write_report(report, config.out)
    print(f"report: {page}")
    return page


def _study_report(
    config: Grpo, betas: Sequence[float], rows: Sequence[EvalRow], curves: dict[str, dict[str, tuple[Point, ...]]],
    items: int,
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
            "test questions": str(items),
            "steps": str(steps),
            "seed": str(config.train.seed),
            "machine": machine(),
            **versions(),
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


def _measure(model: Any, tokenizer: Any, mode: Mode, tests: Sequence[Example], label: str, config: Grpo) -> EvalRow:
    settings = EvalSettings(max_new_tokens=config.grpo.max_new_tokens, seed=config.train.seed)
    evaluator = Evaluator(model, tokenizer, tests, settings, label)
    return evaluator.measure(mode, k=0 if mode == "words" else evaluator.k).row
