"""`latent-gemma compare`: evaluations of the same questions in one report."""

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError, LatentGemmaError, RunError
from latent_gemma.evaluation.items import FILE, Item, read_items
from latent_gemma.evaluation.results import Differences, EvalReport, EvalRow, ThoughtTrace
from latent_gemma.evaluation.vote_rows import VOTED
from latent_gemma.inspection.comparison import (
    best_grid,
    choose,
    cost_charts,
    differing,
    paired_grid,
    spread,
    trace_item,
)
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import metrics_grid
from latent_gemma.inspection.verdict import uses_thoughts, verdict
from latent_gemma.inspection.write import publish
from latent_gemma.model.loading import load_model
from latent_gemma.options.measurements import Compare
from latent_gemma.recipes.stage import model_hash, next_free, run_folder

#: Of each evaluation's context, what the comparison repeats.
CONTEXT = ("data", "answers compared", "seed", "machine")


def run_compare(config: Compare) -> Path:
    """Read evaluations and write one report.

    Args:
        config: which.

    Returns:
        The path of the HTML report.

    Raises:
        ConfigError: for no run.
        RunError: if a folder holds no evaluation, or the evaluations asked different questions.
    """
    if not config.runs:
        raise ConfigError("there is nothing to compare", "name folders that eval wrote: latent-gemma compare A B")
    loaded = [_load(run) for run in config.runs]
    taken = [label for rows, _, _ in loaded for label in main_rows(rows)]
    rows: list[EvalRow] = []
    answers: dict[str, list[Item]] = {}
    context: dict[str, str] = {}
    models: dict[str, tuple[str, str]] = {}
    console = Console()
    for run, (own, items, said) in zip(config.runs, loaded, strict=True):
        names = {label: label if taken.count(label) == 1 else f"{run.name}: {label}" for label in main_rows(own)}
        rows += [replace(row, label=names[row.label]) for row in own]
        if len(loaded) > 1:  # what was not timed in turns cannot be compared
            rows = [replace(row, seconds_per_answer=None, seconds_range=None) for row in rows]
        for label, main in main_rows(own).items():
            setting = (label, main.k, main.p, main.control)
            answers[names[label]] = [item for item in items if (item.label, item.k, item.p, item.control) == setting]
        labels = [label for label in main_rows(own) if not label.endswith(VOTED)]
        if f"model {len(labels)}" in said:  # one model a label, in the same order
            for number, label in enumerate(labels, start=1):
                if main_rows(own)[label].k:
                    models[names[label]] = (said[f"model {number}"], said[f"sha256 {number}"])
        context |= {f"{run.name}: {key}": value for key, value in said.items() if key in CONTEXT}
    _check_same_questions(answers)
    mains = main_rows(rows)
    against = best_grid(answers) if len(answers) > 2 else ()  # of two methods the pairs say it
    tables = (*metrics_grid(rows), *against, paired_grid(answers))
    with console.status("reading thoughts"):
        differences, problems = _differences(answers, models)
    unused = {label for label, row in mains.items() if uses_thoughts(rows, row) is False}
    pick, reason = choose(mains, answers, unused)
    report = EvalReport(
        title=f"{len(mains)} methods on the same {len(next(iter(answers.values())))} questions",
        choice=pick,
        reason=reason,
        verdict=verdict(rows),
        rows=tuple(rows),
        context=context | problems,
        tables=tuple(table for table in tables if table is not None),
        charts=cost_charts(mains),
        differences=differences,
    )
    with run_folder(config.out or next_free("compare"), resume=False) as out:
        return publish(report, out, console)


def _load(run: Path) -> tuple[list[EvalRow], list[Item], dict[str, str]]:
    try:
        found = EvalReport.from_dict(json.loads((run / "report.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run} holds no report of an evaluation", "give a folder that eval wrote") from error
    return list(found.rows), read_items(run / FILE), found.context


def _differences(
    answers: dict[str, list[Item]], models: dict[str, tuple[str, str]]
) -> tuple[Differences | None, dict[str, str]]:
    """Where the methods differ, with the thoughts of those whose model is at hand; and for the others why not."""
    groups = differing(answers)
    shown = spread(groups)
    if not shown:
        return None, {}
    thoughts: dict[str, dict[str, ThoughtTrace]] = {}
    problems: dict[str, str] = {}
    for place, label in enumerate(answers):
        if label in models:
            thoughts[label], problem = _read_thoughts(label, *models[label], [group[place] for group in shown])
            problems |= {f"{label}: thoughts": f"not shown, {problem}"} if problem else {}
    traces = tuple(
        tuple(trace_item(label, item, thoughts.get(label, {})) for label, item in zip(answers, group, strict=True))
        for group in shown
    )
    return Differences(traces, len(groups), len(next(iter(answers.values())))), problems


def _read_thoughts(label: str, name: str, digest: str, items: list[Item]) -> tuple[dict[str, ThoughtTrace], str]:
    """Question -> its thoughts, read by asking the model once more; and what was in the way, if anything."""
    if model_hash(name) != digest:
        return {}, f"{name} is not the model that was evaluated"
    try:
        model, tokenizer = load_model(name)
    except LatentGemmaError as error:
        return {}, str(error)
    examples = [Example(item.question, (), item.expected[0], accepted=item.expected[1:]) for item in items]
    traces = trace_examples(model, tokenizer, examples, label, max(item.tokens for item in items))
    return {trace.question: trace for trace in traces}, ""


def _check_same_questions(answers: dict[str, list[Item]]) -> None:
    (first, *others) = answers
    asked = [item.question for item in answers[first]]
    for label in others:
        given = [item.question for item in answers[label]]
        if given != asked:
            raise RunError(
                f"{first} and {label} were asked different questions ({len(asked)} and {len(given)})",
                "evaluate them on the same data with the same --limit and --seed",
            )
