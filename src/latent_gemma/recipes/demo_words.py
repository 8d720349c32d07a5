"""`latent-gemma demo --words`: a tiny Gemma 2 learns to write its reasoning, is improved by rewards, and votes.

Half of the traces it learns from skip their work, as hasty people do: the tags are there, with nothing between them.
The text stage imitates both habits. Rewards for right answers are all it takes to drop the bad one.
"""

import itertools
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.chains import ChainConfig, chain_examples
from latent_gemma.data.example import Example
from latent_gemma.engines.choice import engine_of
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.evaluation.vote_rows import VOTED, VoteMeasured, measure_vote
from latent_gemma.evaluation.voting import Voter
from latent_gemma.files import copy_folder
from latent_gemma.inspection.numbers import percent, with_interval
from latent_gemma.inspection.vote_tables import votes_charts, votes_grids
from latent_gemma.inspection.write import publish
from latent_gemma.model.config import LatentConfig
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from latent_gemma.origin import RECORD, write_origin
from latent_gemma.recipes.resume import (
    Origin,
    Stopped,
    Unfinished,
    begin,
    finished_stage,
    resume_study,
    resumes,
    step_size,
)
from latent_gemma.recipes.stage import (
    Parent,
    run_folder,
    run_record,
    save_stage,
    say_options,
    training_curves,
)
from latent_gemma.text.columns import spoken
from latent_gemma.text.tags import TAGS, write_tagged
from latent_gemma.training.curriculum import WrittenCurriculum
from latent_gemma.training.settings import GrpoSettings, LoraSettings, RewardSettings, TrainSettings

LENGTH = 4  #: operations in a chain
MAX_NEW_TOKENS = 16
HURRIED = 0.5  #: share of the traces without work
SIZES = {"hidden_size": 128, "num_layers": 3, "intermediate_size": 256}
SFT = TrainSettings(steps=600, batch_size=64, lr=2e-3, warmup=0.05, log_every=10)
GRPO = TrainSettings(steps=200, batch_size=64, lr=1e-4, warmup=0.03, log_every=5)
GROUPS = GrpoSettings(num_generations=8, max_new_tokens=MAX_NEW_TOKENS, sample_every=0)
BETA = 0.04
METHODS = ("base", "SFT", "SFT + GRPO")
LATENT = LatentConfig(num_thoughts=0, words_format="tags", step_separator="")


@dataclass(frozen=True)
class StageConfig:
    """What a stage was trained with, as its run.json holds it."""

    train: TrainSettings
    latent: LatentConfig
    how: WrittenCurriculum | GrpoSettings
    beta: float


@dataclass
class _Progress:
    """What has been measured so far, method by method."""

    singles: dict[str, EvalRow]
    votes: dict[str, VoteMeasured]
    seconds: dict[str, float]
    curves: dict[str, list[dict[str, float]]]


def run_words_demo(config: Any, started_s: float) -> EvalReport | None:
    """Train, vote, measure, print and write the report.

    Args:
        config: see `Demo`.
        started_s: `time.monotonic()` when the session began.

    Returns:
        The report; None if the demo was stopped.

    Raises:
        RunError: if the folder is not empty, or holds a demo with other settings.
    """
    config = replace(config, out=config.out or Path("runs/demo-words"), items=config.items or 1000)
    console, report, out, seed = Console(), None, config.out, config.seed
    started = time.monotonic()
    tests = list(itertools.islice(chain_examples(ChainConfig(LENGTH), "test", seed), config.items))
    # tags of one token each: a tiny model learns the digits between them, not the letters of the tags
    tokenizer = build_tokenizer(TAGS)
    model = build_tiny("gemma2", LATENT, seed=seed, vocab_size=len(tokenizer), **SIZES)
    found = _Progress({}, {}, {}, {})
    with run_folder(out, config.resume != "no"), Unfinished(METHODS) as unfinished:
        resume_study(out, config.resume, Origin("demo --words", config, seed))
        say_options("demo", config)
        worked = f"{tests[0].question} {write_tagged(tests[0].steps, tests[0].answer, '')}"
        console.print(f"Chains of {LENGTH} operations, left to right, modulo 10, worked between tags:", worked,
                      markup=False, highlight=False)  # fmt: skip
        for method in METHODS:
            if method != "base":
                model = _train(method, model, tokenizer, config, started_s, found)
            with console.status(f"measuring {method}"):
                voter = Voter(model, tokenizer, max_new_tokens=MAX_NEW_TOKENS, seed=seed)
                found.singles[method], found.votes[method] = _measure(voter, tests, method)
            took = f"{spoken(found.seconds[method])}; " if method in found.seconds else ""
            right = f"{method}: {took}right on {with_interval(found.singles[method])} % of the questions"
            console.print(right, markup=False, style="dim")
            unfinished.done(method)
        copy_folder(out / _folder(METHODS[-1]) / "model", out / "model")
        minutes = (time.monotonic() - started) / 60
        record = run_record("demo", config, seed)
        report = _report(model, found, tests, minutes, record)
        publish(report, out, console)
        write_origin(out / RECORD, record)
        console.print(f'next: latent-gemma vote {out} "{tests[1].question}" --show-traces', markup=False)
    return report


def _measure(voter: Voter, tests: list[Example], method: str) -> tuple[EvalRow, VoteMeasured]:
    """One greedy pass and the vote of a model over the same questions."""
    settings = EvalSettings(batch_size=250, max_new_tokens=voter.max_new_tokens, seed=voter.seed)
    single = Evaluator(voter.model, voter.frame.tokenizer, tests, settings, method).measure(
        voter.mode, voter.num_thoughts
    )
    return single.row, measure_vote(voter, tests, f"{method}{VOTED}", batch_size=250)


def _folder(method: str) -> str:
    return method.lower().replace(" + ", "-")


def _train(
    method: str, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, config: Any, started_s: float, found: _Progress
) -> Any:
    """Train one method on top of the one before and save it as a stage, unless it is finished; returns the model."""
    run, seed, first = config.out / _folder(method), config.seed, method == "SFT"
    settings = SFT if first else GRPO
    steps = max(1, round(settings.steps * config.scale))
    settings = replace(settings, steps=steps, seed=seed, max_hours=config.max_hours, engine=config.engine)
    engine = engine_of(settings)
    # GRPO takes one question a group; its questions are others than the text stage has seen.
    questions = settings.steps * settings.batch_size
    drawn = chain_examples(ChainConfig(LENGTH), "train", seed if first else seed + 1)
    if first:
        rng = random.Random(seed)
        examples = [
            replace(example, steps=("",)) if rng.random() < HURRIED else example
            for example in itertools.islice(drawn, questions)
        ]
        parent = Parent("a fresh tiny Gemma 2")
    else:
        examples = list(itertools.islice(drawn, max(1, questions // GROUPS.num_generations)))
        parent = Parent.of(str(config.out / _folder("SFT")))
    stage = StageConfig(settings, LATENT, WrittenCurriculum() if first else GROUPS, 0.0 if first else BETA)
    size = step_size(settings.batch_size, settings.accumulate)
    origin = Origin("demo --words", stage, seed, parent, examples, size)
    with run_folder(run, resume=True):
        resume = resumes(run, "auto", origin)
        if resume is None:
            model, _, result = finished_stage(run)
            result = replace(result, model=model)
        else:
            begin(run, origin)
            title = method
            if first:
                result = engine.fit(
                    model, tokenizer, examples, WrittenCurriculum(), settings, run, title, resume=resume,
                    started_s=started_s, brief=True,
                )  # fmt: skip
            else:
                rewards = RewardSettings(least_chars=LENGTH).build("words")
                result = engine.fit_grpo(
                    model, tokenizer, examples, rewards, "words", settings, GROUPS, run, LoraSettings(), BETA,
                    title, resume, started_s, brief=True,
                )  # fmt: skip
            if result.finished:
                save_stage(run, origin.record(), tokenizer, result)
            if result.asked:
                raise Stopped(method, result)
    found.seconds[method] = result.seconds
    shown = ("answer loss, nats a token", "reward", "KL to the start, nats per token", "reward for correctness")
    curves = training_curves(result.metrics, f"{method}: ")
    found.curves.update({name: points for name, points in curves.items() if name.split(": ", 1)[1] in shown})
    return result.model.eval()


def _verdict(found: _Progress) -> str:
    sft, grpo = (found.singles[method] for method in METHODS[1:])
    change = "raises" if grpo.low > sft.high else "lowers" if grpo.high < sft.low else "does not clearly change"
    votes = " and ".join(
        f"{percent(found.singles[method].accuracy)} to {percent(found.votes[method].row.accuracy)} % ({method})"
        for method in METHODS[1:]
    )
    return (
        f"GRPO {change} accuracy: {with_interval(sft)} % before, {with_interval(grpo)} % after, one greedy pass each. "
        f"Format compliance is {percent((sft.complete or 0) / sft.total)} % before and "
        f"{percent((grpo.complete or 0) / grpo.total)} % after. A vote of "
        f"{len(found.votes[METHODS[0]].maj)} takes accuracy from {votes}."
    )


def _report(
    model: LatentReasoningGemmaForCausalLM, found: _Progress, tests: list[Example], minutes: float,
    record: dict[str, Any],
) -> EvalReport:  # fmt: skip
    rows = tuple(row for method in METHODS for row in (found.singles[method], found.votes[method].row))
    return EvalReport(
        title="A tiny Gemma 2 learns to reason in words",
        verdict=_verdict(found),
        rows=rows,
        context={
            "task": f"chains of {LENGTH} operations modulo 10, {len(tests)} test questions, none in training",
            "traces": f"{HURRIED:.0%} of those the text stage imitates skip their work",
            "model": f"Gemma 2, {sum(p.numel() for p in model.parameters()):,} parameters",
            "training": ", ".join(f"{method} {found.seconds[method]:.0f} s" for method in METHODS[1:]),
            "time": f"{minutes:.1f} minutes", "machine": record["machine"], "seed": str(record["seed"]),
            **record["versions"],
        },
        curves=found.curves,
        tables=votes_grids(found.votes),
        charts=votes_charts(found.votes, found.singles),
    )  # fmt: skip
