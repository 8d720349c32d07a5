"""`latent-gemma eval`: models on tasks or on any data, with intervals, curves over K and p, controls and reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from latent_gemma.config import parse_numbers
from latent_gemma.data.example import Example
from latent_gemma.data.load import load_examples
from latent_gemma.data.tasks import find_task, load_task
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.engine import EvalSettings, Evaluator, Measured
from latent_gemma.evaluation.items import FILE, append_items, make_items
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.evaluation.metrics.registry import check_metrics
from latent_gemma.evaluation.results import EvalReport, ThoughtTrace
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.tables import further_tables, metrics_grid, results_table
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.write import write_report
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Mode
from latent_gemma.recipes.stage import DataSettings, machine, model_hash, next_free, run_folder, versions
from latent_gemma.recipes.words import ask_for
from latent_gemma.text.answers import Match, answers_match
from latent_gemma.text.language import Language, detect_language
from latent_gemma.text.verify import MathVerifier


@dataclass(frozen=True)
class Eval:
    """Measure models on questions they were not trained on.

    Args:
        models: run folders, model directories, GGUF files or hub names; one or more.
        data: the test part of generated and hub data; of a local file the held-out rows, or all without holdout.
        tasks: instead of data, tasks by name, each from the hub or from a file: gsm8k,mgsm-ja=mgsm_ja.tsv;
            `latent-gemma tasks` lists them.
        metrics: further metrics of the answers: fuzzy, bleu, bertscore, language.
        encoder: of BERTScore: a hub name or a local directory.
        k: numbers of latent steps to try besides the model's own, e.g. 0,1,2,4,8.
        p: shares of the token embedding to try besides the model's own, e.g. 0,0.5,1.
        mode: "latent" thinks, "words" writes its steps (a model trained by `train sft`); "auto" writes them where they
            stand between tags, and thinks otherwise.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        controls: measure zeroed, noise, swapped and pause thoughts.
        skip_bad: leave malformed rows of a task out, each told in a line, instead of stopping.
        out: folder of the report, one folder in it for each task; None takes the next free runs/eval-N.
        batch_size: questions answered at once.
        max_new_tokens: bound on generated tokens.
        traces: items whose thoughts the report shows.
        layers: read the thoughts after every layer too.
        seed: of generated data, of a task's sample and of the noise control.
    """

    models: Positional[tuple[str, ...]]
    data: DataSettings = field(default_factory=lambda: DataSettings(data=""))
    tasks: str = ""
    metrics: str = ""
    encoder: str = DEFAULT_ENCODER
    k: str = ""
    p: str = ""
    mode: Literal["auto", "latent", "words"] = "auto"
    format: WordsFormat | None = None
    system: str | None = None
    controls: bool = True
    skip_bad: bool = False
    out: Path | None = None
    batch_size: int = 64
    max_new_tokens: int = 256
    traces: int = 5
    layers: bool = False
    seed: int = 0


@dataclass
class _Target:
    """What models are measured on, and what was found so far."""

    name: str
    source: str
    folder: Path
    examples: list[Example]
    language: Language
    match: Match
    found: list[Measured] = field(default_factory=list)
    traces: list[ThoughtTrace] = field(default_factory=list)


def run_eval(config: Eval) -> Path:
    """Evaluate and write the reports.

    Args:
        config: what is measured.

    Returns:
        The path of the HTML report; of several tasks the folder that holds one folder each.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or a model that cannot be used.
    """
    ks = parse_numbers(config.k, int, "--k")
    ps = parse_numbers(config.p, float, "--p")
    if any(k < 0 for k in ks):
        raise ConfigError(f"--k {config.k} holds a negative number of latent steps", "give 0 or more")
    if any(not 0 <= p <= 1 for p in ps):
        raise ConfigError(f"--p {config.p} holds a share outside [0, 1]", "give shares between 0 and 1")
    if not config.models:
        raise ConfigError("there is no model to evaluate", "name one: latent-gemma eval RUN --data FILE")
    metrics = tuple(filter(None, (name.strip() for name in config.metrics.split(","))))
    check_metrics(metrics)
    console = Console()
    with run_folder(config.out or next_free("eval"), resume=False) as out:
        with MathVerifier() as verifier:
            targets = _targets(config, out, verifier, console)
            for name, label in zip(config.models, _labels(config.models), strict=True):
                model, tokenizer = load_model(name)
                ask_for(model, config.format, config.system)
                for target in targets:
                    settings = EvalSettings(
                        ks, ps, config.controls, config.batch_size, config.max_new_tokens, config.seed, metrics,
                        target.language, config.encoder, target.match,
                    )  # fmt: skip
                    with console.status("") as status:
                        _measure(target, model, tokenizer, label, settings, config, lambda t: status.update(t))
        pages = [_write(target, config, console) for target in targets]
    return pages[0] if len(pages) == 1 else out


def _targets(config: Eval, out: Path, verifier: MathVerifier, console: Console) -> list[_Target]:
    if bool(config.tasks) == bool(config.data.data):
        raise ConfigError("an evaluation is on --tasks or on --data", "give one of them")
    if config.data.data:
        spec = config.data.spec("test", config.seed)
        whole_file = not (spec.is_generated or spec.is_hub_name or spec.holdout)
        examples = load_examples(spec)
        source = f"{spec.source} ({'whole file' if whole_file else 'held-out part'})"
        return [_Target(spec.source, source, out, examples, detect_language(examples[0].answer), answers_match)]
    targets = []
    for part in filter(None, (part.strip() for part in config.tasks.split(","))):
        name, _, path = part.partition("=")
        task, skipped = find_task(name), list[DataError]()
        examples = load_task(
            name, Path(path) if path else None, config.data.limit, config.seed,
            skipped.append if config.skip_bad else None,
        )  # fmt: skip
        for error in skipped:
            console.print(f"left out: {error}", markup=False, highlight=False)
        language: Language = "ja" if task.answer_language == "ja" else "en"
        match = verifier.equal if task.answer_kind == "math" else answers_match
        source = f"{path or task.source}, {len(skipped)} malformed rows left out" if skipped else path or task.source
        targets.append(_Target(name, source, out / name, examples, language, match))
    return targets


def _labels(models: Sequence[str]) -> list[str | None]:
    """Names that tell several models apart; of a single one what it does tells more."""
    if len(models) == 1:
        return [None]
    names = [Path(model).name for model in models]
    return [name if names.count(name) == 1 else model for name, model in zip(names, models, strict=True)]


def _measure(
    target: _Target, model: Any, tokenizer: Any, label: str | None, settings: EvalSettings, config: Eval, say: Any
) -> None:
    latent = model.config.latent
    mode: Mode = config.mode if config.mode != "auto" else "words" if latent.words_format == "tags" else "latent"
    label = label or ("words" if mode == "words" else "latent" if latent.num_thoughts else "no reasoning")
    evaluator = Evaluator(model, tokenizer, target.examples, settings, label)
    say(f"{target.name}: {label}")
    found = [evaluator.measure(mode="words")] if mode == "words" else evaluator.run(say)
    target.folder.mkdir(parents=True, exist_ok=True)
    for measured in found:
        items = make_items(measured.row, target.examples, measured.answers, measured.grades)
        append_items(target.folder / FILE, items)
    target.found += found
    if config.traces and mode == "latent":
        target.traces += trace_examples(
            model, tokenizer, target.examples[: config.traces], label, config.max_new_tokens, config.layers
        )


def _write(target: _Target, config: Eval, console: Console) -> Path:
    rows = tuple(measured.row for measured in target.found)
    models = ", ".join(Path(model).name for model in config.models)
    report = EvalReport(
        title=f"{models} on {target.name}",
        verdict=verdict(rows),
        rows=rows,
        traces=tuple(target.traces),
        context={
            **{f"model {number}": model for number, model in enumerate(config.models, start=1)},
            **{f"sha256 {number}": model_hash(model) for number, model in enumerate(config.models, start=1)},
            "data": target.source,
            "items": str(len(target.examples)),
            "seed": str(config.seed),
            "machine": machine(),
            **versions(),
        },
        tables=metrics_grid(rows),
    )
    console.print(results_table(report))
    for table in further_tables(report):
        console.print(table)
    console.print(report.verdict, markup=False)
    page = write_report(report, target.folder)
    console.print(f"report: {page}", markup=False)
    return page
