"""`latent-gemma vote`: one question answered by consensus, or what consensus is worth over a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from latent_gemma.config import TEMPERATURES, Amount, Count, Range, Seed, Size, check_ranges, parse_numbers
from latent_gemma.data.example import Example
from latent_gemma.data.kinds import COMPARED, answer_kind
from latent_gemma.data.load import load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.planning import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.evaluation.votes import VOTED, VoteMeasured, measure_vote
from latent_gemma.evaluation.voting import VotedAnswer, Voter
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.votes import votes_charts, votes_grids
from latent_gemma.inspection.write import publish
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.static import Prepared
from latent_gemma.recipes.stage import DataSettings, machine, model_hash, next_free, run_folder
from latent_gemma.recipes.targets import AskedKind, match_of
from latent_gemma.recipes.words import AskedMode, ask_for, writing_mode
from latent_gemma.text.answers import Match, answers_match
from latent_gemma.text.display import displayable
from latent_gemma.text.verify import MathVerifier
from latent_gemma.versions import versions


@dataclass(frozen=True)
class Vote:
    """Answer by a vote of several traces: one question, or with `data` a whole test set, with a report.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        question: the question to answer.
        data: instead of a question: the test part of generated and hub data, the held-out rows of a local file.
        answer_kind: how answers are compared, as in `eval`; "auto" takes what the format of the data says.
        base: measure this model beside, asked in the same way: what the vote was worth before training.
        temperatures: of the traces.
        traces: traces in a vote, the temperatures taken in turn; None takes one each.
        mode: "auto" does what the model was trained for; "latent" thinks, "words" writes its steps, "none" answers at
            once.
        k: latent steps in latent mode; None takes the model's own number.
        noise: noise on each trace's thoughts in latent mode, in units of their RMS.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        show_traces: print every trace.
        out: folder of the report; None takes the next free runs/vote-N.
        batch_size: questions in one generation call.
        max_new_tokens: bound on generated tokens of a trace.
        compile: compile the steps of thinking and decoding, which takes half a minute or more at first.
        seed: of the sampling and of generated data.
    """

    model: Positional[str]
    question: Positional[str] = ""
    data: DataSettings = field(default_factory=lambda: DataSettings(data=""))
    answer_kind: AskedKind = "auto"
    base: str | None = None
    temperatures: str = "0.2,0.4,0.6,0.8,1.0"
    traces: Annotated[int, Range(1, 50_000)] | None = None
    mode: AskedMode = "auto"
    k: Size | None = None
    noise: Amount = 0.0
    format: WordsFormat | None = None
    system: str | None = None
    show_traces: bool = False
    out: Path | None = None
    batch_size: Count = 16
    max_new_tokens: Count = 256
    compile: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


def run_vote(config: Vote) -> Path | None:
    """Answer a question on the terminal, or measure and write a report.

    Args:
        config: see `Vote`.

    Returns:
        The path of the HTML report; None for a question.

    Raises:
        LatentGemmaError: for anything in the configuration, the data or the model that cannot be used.
    """
    temperatures = parse_numbers(config.temperatures, float, "--temperatures", TEMPERATURES)
    if bool(config.question.strip()) == bool(config.data.data):
        raise ConfigError("a vote is on one question or on --data", 'write vote RUN "2+3=", or vote RUN --data FILE')
    if config.question:
        _show(_voter(*load_model(config.model), config, temperatures)(config.question), config.show_traces)
        return None
    return _measure(config, temperatures)


def _voter(model: Any, tokenizer: Any, config: Vote, temperatures: Sequence[float]) -> Voter:
    ask_for(model, config.format, config.system)
    return Voter(
        model, tokenizer, temperatures, config.traces, writing_mode(model.config.latent, config.mode), config.k,
        config.noise, config.max_new_tokens, config.seed, prepared=Prepared(model, config.compile),
    )  # fmt: skip


def _show(voted: VotedAnswer, traces: bool) -> None:
    console = Console()
    if traces:
        table = Table("temperature", "answer", "log-probability", "reasoning", box=None)
        for trace in voted.traces:
            written = trace.written
            shown = [Text(displayable(text)) for text in (written.answer, written.reasoning)]
            table.add_row(f"{trace.temperature:g}", shown[0], f"{trace.logprob:.3f}", shown[1])
        console.print(table)
    if voted.answer is None:
        console.print("no trace has an answer", style="dim")
        return
    winner = voted.consensus.winner
    reasoning = voted.traces[winner].written.reasoning if winner is not None and not traces else ""
    if reasoning:
        console.print(Text(displayable(reasoning), style="dim"))
    agreement = f"  {voted.consensus.votes} of {voted.consensus.total} traces agree"
    console.print(Text.assemble((displayable(voted.answer), "bold"), (agreement, "dim")))


def measure_both(
    voter: Voter, examples: Sequence[Example], label: str, batch_size: int, match: Match = answers_match
) -> tuple[EvalRow, VoteMeasured]:
    """One greedy pass and the vote of a model over the same questions.

    Args:
        voter: how to vote.
        examples: the questions.
        label: the method's name in tables.
        batch_size: questions in one generation call.
        match: how answers are compared.

    Returns:
        The row of the single pass, and what the vote is worth.
    """
    settings = EvalSettings(batch_size=batch_size, max_new_tokens=voter.max_new_tokens, seed=voter.seed, match=match)
    evaluator = Evaluator(voter.model, voter.frame.tokenizer, examples, settings, label)
    single = evaluator.measure(voter.mode, voter.num_thoughts).row
    return single, measure_vote(voter, examples, f"{label}{VOTED}", batch_size, match)


def _measure(config: Vote, temperatures: Sequence[float]) -> Path:
    spec = config.data.spec("test", config.seed)
    examples = load_examples(spec)
    kind = answer_kind(spec, examples) if config.answer_kind == "auto" else config.answer_kind
    models = {Path(config.model).name: config.model}
    if config.base:
        models["base" if Path(config.base).name in models else Path(config.base).name] = config.base
    votes: dict[str, VoteMeasured] = {}
    singles: dict[str, EvalRow] = {}
    with run_folder(config.out or next_free("vote"), resume=False) as out, MathVerifier() as verifier:
        console, match = Console(), match_of(kind, verifier.equal)
        asked = config
        for label, name in models.items():
            model, tokenizer = load_model(name)
            with console.status(f"measuring {label}"):
                voter = _voter(model, tokenizer, asked, temperatures)
                singles[label], votes[label] = measure_both(voter, examples, label, config.batch_size, match)
            # the base answers the same prompt in the same mode
            latent = model.config.latent
            asked = replace(config, mode=voter.mode, format=latent.words_format, system=latent.system)
        rows = [row for label in models for row in (singles[label], votes[label].row)]
        report = EvalReport(
            title=f"{Path(config.model).name} by vote on {config.data.data}",
            verdict=verdict(rows),
            rows=tuple(rows),
            context={
                "model": config.model, "model sha256": model_hash(config.model), "base": config.base or "not measured",
                "data": config.data.data, "answers compared": COMPARED[kind], "items": str(len(examples)),
                "temperatures": ", ".join(f"{value:g}" for value in voter.temperatures),
                "seed": str(config.seed), "machine": machine(), **versions(),
            },
            tables=votes_grids(votes),
            charts=votes_charts(votes, singles),
        )  # fmt: skip
        return publish(report, out, console)
