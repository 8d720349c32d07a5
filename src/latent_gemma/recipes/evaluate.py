"""`latent-gemma eval`: models on tasks or on any data, with intervals, curves over K and p, controls and reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from latent_gemma.config import (
    SHARES,
    TEMPERATURES,
    THOUGHTS,
    Amount,
    Count,
    Seed,
    Size,
    Whole,
    check_ranges,
    parse_numbers,
)
from latent_gemma.data.kinds import COMPARED
from latent_gemma.errors import ConfigError, LatentGemmaError, RunError
from latent_gemma.evaluation.counting import language_rows
from latent_gemma.evaluation.engine import Evaluator, Measured
from latent_gemma.evaluation.items import FILE
from latent_gemma.evaluation.log import open_log
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.evaluation.metrics.registry import check_metrics
from latent_gemma.evaluation.planning import EvalSettings
from latent_gemma.evaluation.results import EvalReport
from latent_gemma.evaluation.votes import VOTED
from latent_gemma.inspection.costs import cost_grid, language_grid
from latent_gemma.inspection.lens import trace_examples
from latent_gemma.inspection.tables import metrics_grid
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.votes import votes_charts, votes_grids
from latent_gemma.inspection.write import publish
from latent_gemma.launch import is_main_process
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.traces import check_temperatures
from latent_gemma.recipes.answers_bar import AnswersBar
from latent_gemma.recipes.contestants import Contestant, fitting, identity, line_up
from latent_gemma.recipes.stage import (
    DataSettings,
    machine,
    model_hash,
    next_free,
    run_folder,
)
from latent_gemma.recipes.targets import AskedKind, Target, read_targets
from latent_gemma.recipes.words import AskedMode, ask_for
from latent_gemma.text.display import displayable
from latent_gemma.text.language import AnswerLanguage, ask_in
from latent_gemma.text.verify import MathVerifier
from latent_gemma.training.settings import Resume
from latent_gemma.versions import versions


@dataclass(frozen=True)
class Eval:
    """Measure models on questions they were not trained on.

    Args:
        models: run folders, model directories, GGUF files or hub names; one or more. A mode behind a colon says how
            this one is asked: runs/words:words, runs/annealed:none.
        data: the test part of generated and hub data; of a local file the held-out rows, or all without holdout.
        tasks: instead of data, tasks by name, each from the hub or from a file: gsm8k,mgsm-ja=mgsm_ja.tsv;
            `latent-gemma tasks` lists them.
        answer_kind: how answers are compared: as "number", "math" (expressions, by math-verify), "choice", "text" or
            "translation"; "auto" takes what the task or the format of the data says.
        metrics: further metrics of the answers: fuzzy, bleu, bertscore, language.
        encoder: of BERTScore: a hub name or a local directory.
        k: numbers of latent steps to try besides the model's own, e.g. 0,1,2,4,8.
        p: shares of the token embedding to try besides the model's own, e.g. 0,0.5,1.
        mode: "auto" asks each model as it was trained: "latent" thinks, "words" writes its steps, "none" answers at
            once.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        controls: measure zeroed, noise, swapped and pause thoughts.
        votes: hold a vote of this many sampled traces at every K and p as well; 0 for none.
        temperatures: of the traces, taken in turn.
        noise: on each trace's thoughts, in units of their RMS.
        answer_language: "same" as the question's, or "ja" or "en": a question in the other language is then asked with
            an instruction to answer in this one.
        skip_bad: leave out what cannot be used (malformed rows, a task whose file cannot be read, questions longer
            than a model takes), each told in a line, instead of stopping.
        out: folder of the report, one folder in it for each task; None takes the next free runs/eval-N.
        resume: go on in --out where an evaluation was stopped or killed; "auto" starts it if there is nothing yet.
        batch_size: questions answered at once; of votes, traces.
        max_new_tokens: bound on generated tokens.
        compile: compile the steps of thinking and decoding, which takes half a minute or more at first.
        traces: items whose thoughts the report shows.
        layers: read the thoughts after every layer too.
        seed: of generated data, of a task's sample, of the noise control and of the votes.
    """

    models: Positional[tuple[str, ...]]
    data: DataSettings = field(default_factory=lambda: DataSettings(data=""))
    tasks: str = ""
    answer_kind: AskedKind = "auto"
    metrics: str = ""
    encoder: str = DEFAULT_ENCODER
    k: str = ""
    p: str = ""
    mode: AskedMode = "auto"
    format: WordsFormat | None = None
    system: str | None = None
    controls: bool = True
    votes: Size = 0
    temperatures: str = "0.2,0.4,0.6,0.8,1.0"
    noise: Amount = 0.0
    answer_language: AnswerLanguage = "same"
    skip_bad: bool = False
    out: Path | None = None
    resume: Resume = "no"
    batch_size: Count = 64
    max_new_tokens: Count = 256
    compile: bool = False
    traces: Whole = 5
    layers: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


def run_eval(config: Eval) -> Path:
    """Evaluate and write the reports.

    Args:
        config: what is measured.

    Returns:
        The path of the HTML report; of several tasks the folder that holds one folder each.

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
        contestants = line_up(config.models, config.mode, config.format, settings)
        origin = _origin(config, contestants)
        for target in targets:
            target.log = open_log(target.folder, origin | {"data": target.digest, "kind of answers": target.kind})
        try:
            with AnswersBar(contestants, targets) as bar:
                for one in contestants:
                    _measure(one, targets, config, settings, bar, say)
        except (LatentGemmaError, KeyboardInterrupt):
            if any(target.found or target.log for target in targets):
                say(f"finished items are kept: the same command with --out {out} --resume auto goes on")
            raise
        if not is_main_process():
            return out
        pages = [_write(target, contestants, config, console) for target in targets]
    return pages[0] if len(pages) == 1 else out


def _settings(config: Eval) -> EvalSettings:
    ks = parse_numbers(config.k, int, "--k", THOUGHTS)
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
    model, tokenizer = load_model(one.name)
    ask_for(model, config.format, config.system)
    model.set_latent(num_thoughts=one.k)
    for target in targets:
        examples = fitting(one, target, model, tokenizer, config.skip_bad, settings, say)
        evaluator = Evaluator(
            model, tokenizer, examples, replace(settings, match=target.match), one.label, target.log, bar.update
        )
        target.found += evaluator.run(partial(bar.say, target.name), one.mode)
        if config.traces and one.mode == "latent":
            shown = [
                replace(example, question=ask_in(example.question, config.answer_language))
                for example in examples[: config.traces]
            ]
            target.traces += trace_examples(
                model, tokenizer, shown, one.label, config.max_new_tokens, config.layers, target.match
            )


def _write(target: Target, contestants: Sequence[Contestant], config: Eval, console: Console) -> Path:
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
            "answers compared": COMPARED[target.kind],
            "items": str(len(target.examples)),
            "seed": str(config.seed),
            **({"votes": f"{config.votes} traces at {config.temperatures}"} if config.votes else {}),
            "machine": machine(),
            **versions(),
        },
        tables=(
            *metrics_grid(rows), *language_grid(languages), *(votes_grids(votes) if votes else ()), *cost_grid(rows)
        ),
        charts=votes_charts(votes, {label: mains[label].row for label in votes}) if votes else (),
        languages=languages,
    )  # fmt: skip
    return publish(report, target.folder, console)
