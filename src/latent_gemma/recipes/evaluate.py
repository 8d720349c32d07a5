"""`latent-gemma eval`: models on tasks or on any data, with intervals, curves over K and p, controls and reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from latent_gemma.data.kinds import COMPARED
from latent_gemma.errors import ConfigError, LatentGemmaError, RunError
from latent_gemma.evaluation.engine import Evaluator, Measured
from latent_gemma.evaluation.items import FILE
from latent_gemma.evaluation.log import open_log
from latent_gemma.evaluation.metrics.registry import check_metrics
from latent_gemma.evaluation.points import EvalSettings
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.evaluation.row_counts import language_rows
from latent_gemma.evaluation.timing import sample_size, time_in_turns, with_times
from latent_gemma.evaluation.vote_rows import VOTED
from latent_gemma.generation.answers import check_temperatures
from latent_gemma.inspection.comparison import best_grid, cost_charts
from latent_gemma.inspection.costs import cost_grid, language_grid
from latent_gemma.inspection.lens import both_kinds, trace_examples
from latent_gemma.inspection.select import main_rows
from latent_gemma.inspection.tables import further_grid, metrics_grid
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.vote_tables import votes_charts, votes_grids
from latent_gemma.inspection.write import publish
from latent_gemma.launch import is_main_process
from latent_gemma.model.loading import load_model
from latent_gemma.options.measurements import Eval
from latent_gemma.origin import RECORD, write_origin
from latent_gemma.ranges import (
    SHARES,
    TEMPERATURES,
    parse_numbers,
    parse_thoughts,
)
from latent_gemma.recipes.answers_bar import AnswersBar
from latent_gemma.recipes.contestants import Contestant, fitting, identity, line_up
from latent_gemma.recipes.stage import (
    machine,
    model_hash,
    next_free,
    run_folder,
    run_record,
    say_options,
)
from latent_gemma.recipes.targets import Target, read_further, read_targets
from latent_gemma.recipes.words import ask_for
from latent_gemma.text.display import displayable
from latent_gemma.text.language import ask_in
from latent_gemma.text.verify import MathVerifier
from latent_gemma.versions import versions


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Args:
        folder: of the report; of several tasks it holds one folder each.
        reports: task, or the name of the data -> report.
    """

    folder: Path
    reports: Mapping[str, EvalReport]

    @property
    def report(self) -> EvalReport:
        """The only report, of several tasks the first."""
        return next(iter(self.reports.values()))


def run_eval(config: Eval) -> Evaluated:
    """Evaluate and write the reports.

    Args:
        config: what is measured.

    Returns:
        The reports, where this process writes them.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or a model that cannot be used.
    """
    settings = _settings(config)
    console = Console(quiet=not is_main_process())

    def say(text: str) -> None:
        console.print(displayable(text), markup=False, highlight=False, soft_wrap=True)

    with run_folder(_folder(config), resume=config.resume != "no") as out, MathVerifier() as verifier:
        targets = read_targets(
            config.tasks, config.data, config.answer_kind, config.seed, config.skip_bad, out, verifier.equal, say
        )
        if config.ood:
            targets.append(
                read_further(
                    config.ood, config.data, config.answer_kind, config.seed, config.skip_bad, out, verifier.equal, say
                )
            )
        contestants = line_up(config.models, config.mode, config.format, settings)
        origin = _origin(config, contestants)
        for target in targets:
            target.log = open_log(target.folder, origin | {"data": target.digest, "kind of answers": target.kind})
        say_options("eval", config)
        try:
            with AnswersBar(contestants, targets) as bar:
                for one in contestants:
                    _measure(one, targets, config, settings, bar, say)
        except (LatentGemmaError, KeyboardInterrupt):
            if any(target.found or target.log for target in targets):
                say(f"finished items are kept: the same command with --out {out} --resume auto goes on")
            raise
        if not is_main_process():
            return Evaluated(out, {})
        further = [target for target in targets if target.main_only]
        mains = [target for target in targets if not target.main_only]
        for target in mains if len(contestants) == 1 or not config.compile else ():  # a load compiles anew
            _time(target, contestants, config, settings, console)
        reports = {target.name: _write(target, further, contestants, config, console) for target in mains}
        write_origin(out / RECORD, run_record("eval", config, config.seed))
    return Evaluated(out, reports)


def _settings(config: Eval) -> EvalSettings:
    ks = parse_thoughts(config.k, "--k")
    ps = parse_numbers(config.p, float, "--p", SHARES)
    temperatures = parse_numbers(config.temperatures, float, "--temperatures", TEMPERATURES)
    check_temperatures(temperatures)
    if not config.models:
        raise ConfigError("there is no model to evaluate", "name one: latent-gemma eval RUN --data FILE")
    metrics = tuple(filter(None, (name.strip() for name in config.metrics.split(","))))
    check_metrics(metrics)
    return EvalSettings(
        ks, ps, config.controls, config.batch_size, config.max_new_tokens, config.seed, metrics, config.encoder,
        answer_language=config.answer_language, votes=config.votes, temperatures=temperatures, noise=config.noise,
        compiled=config.compile,
    )  # fmt: skip


def _origin(config: Eval, contestants: Sequence[Contestant]) -> dict[str, str]:
    """What items depend on, besides the questions. What else is asked for may change when an evaluation goes on."""
    names = ["format", "system", "batch_size", "max_new_tokens", "seed", "answer_language", "votes"]
    names += ["temperatures", "noise"] if config.votes else []
    origin = {name.replace("_", " "): str(getattr(config, name)) for name in names}
    for number, one in enumerate(contestants, start=1):
        known = identity(one.name) | {"mode of model": one.mode}
        origin |= {f"{what} {number}": value for what, value in known.items()}
    return origin


def _folder(config: Eval) -> Path:
    if config.resume != "no" and config.out is None:
        raise ConfigError(f"--resume {config.resume} needs the folder to go on in", "name it with --out")
    out = config.out or next_free("eval")
    if config.resume == "yes" and not any(out.rglob(FILE)):
        raise RunError(f"{out} holds no evaluation to resume", "start it with --resume no, or auto")
    return out


def _measure(
    one: Contestant, targets: Sequence[Target], config: Eval, settings: EvalSettings, bar: AnswersBar,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    model, tokenizer = _load(one, config)
    for target in targets:
        examples = fitting(one, target, model, tokenizer, config.skip_bad, settings, say)
        asked = replace(settings, match=target.match)
        if target.main_only:
            asked = replace(asked, ks=(), ps=(), controls="none", votes=0)
        evaluator = Evaluator(model, tokenizer, examples, asked, one.label, target.log, bar.update)
        measured = evaluator.run(partial(bar.say, target.name), one.mode)
        target.found += measured
        if config.traces and one.mode == "latent" and not target.main_only:
            shown = [
                replace(examples[at], question=ask_in(examples[at].question, config.answer_language))
                for at in both_kinds([item.correct for item in measured[0].items], config.traces)
            ]
            target.traces += trace_examples(
                model, tokenizer, shown, one.label, config.max_new_tokens, config.layers, target.match
            )


def _time(
    target: Target, contestants: Sequence[Contestant], config: Eval, settings: EvalSettings, console: Console
) -> None:
    """Note what an answer takes, all models asked the same questions in turns."""
    mains = {one.label: next(found for found in target.found if found.row.label == one.label) for one in contestants}
    everywhere = set.intersection(*({item.question for item in main.items} for main in mains.values()))
    asked = [example for example in target.examples if example.question in everywhere]
    asked = asked[:: max(1, len(asked) // sample_size(len(asked), config.batch_size))]
    asked = asked[: sample_size(len(target.examples), config.batch_size)]

    def load(one: Contestant) -> Callable[[], float]:
        model, tokenizer = _load(one, config)
        evaluator = Evaluator(model, tokenizer, asked, settings, one.label)
        return lambda: evaluator.seconds(one.mode, asked)

    took_s = sum(item.seconds for found in target.found for item in found.items)
    with console.status(f"{target.name}: timing"):
        times = time_in_turns({one.label: partial(load, one) for one in contestants}, took_s)
    rows = with_times([found.row for found in target.found], times)
    target.found = [replace(found, row=row) for found, row in zip(target.found, rows, strict=True)]


def _load(one: Contestant, config: Eval) -> tuple[Any, Any]:
    model, tokenizer = load_model(one.name)
    ask_for(model, config.format, config.system)
    if one.k != "auto":
        model.set_latent(num_thoughts=one.k)
    return model, tokenizer


def _write(
    target: Target, further: Sequence[Target], contestants: Sequence[Contestant], config: Eval, console: Console
) -> EvalReport:
    rows = tuple(measured.row for measured in target.found)
    mains: dict[str, Measured] = {}
    for measured in target.found:
        mains.setdefault(measured.row.label, measured)
    votes = {label.removesuffix(VOTED): main.vote for label, main in mains.items() if main.vote is not None}
    metrics = _settings(config).metrics
    languages = tuple(row for main in mains.values() for row in language_rows(main.items, metrics, config.encoder))
    report = EvalReport(
        title=f"{', '.join(dict.fromkeys(Path(one.name).name for one in contestants))} on {target.name}",
        verdict=verdict(rows),
        rows=rows,
        traces=tuple(target.traces),
        context={
            **{f"model {number}": one.name for number, one in enumerate(contestants, start=1)},
            **{f"sha256 {number}": model_hash(one.name) for number, one in enumerate(contestants, start=1)},
            "data": target.source,
            **({"further data": ", ".join(other.source for other in further)} if further else {}),
            "answers compared": COMPARED[target.kind],
            "items": str(len(target.examples)),
            "seed": str(config.seed),
            **({"votes": f"{config.votes} traces at {config.temperatures}"} if config.votes else {}),
            "machine": machine(),
            **versions(),
        },
        tables=(
            *further_grid(rows, {other.name: [found.row for found in other.found] for other in further}),
            *best_grid({label: main.items for label, main in mains.items() if main.vote is None}), *metrics_grid(rows),
            *language_grid(languages), *(votes_grids(votes) if votes else ()), *cost_grid(rows),
        ),
        charts=(
            *(cost_charts(main_rows(rows)) if len(contestants) > 1 else ()),
            *(votes_charts(votes, {label: mains[label].row for label in votes}) if votes else ()),
        ),
        languages=languages,
    )  # fmt: skip
    publish(report, target.folder, console)
    return report
