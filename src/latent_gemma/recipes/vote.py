"""`latent-gemma vote`: one question answered by consensus, or what consensus is worth over a data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latent_gemma.config import TEMPERATURES, parse_numbers
from latent_gemma.data.example import Example
from latent_gemma.data.kinds import COMPARED, answer_kind
from latent_gemma.data.load import load_examples
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.engine import Evaluator
from latent_gemma.evaluation.planning import EvalSettings
from latent_gemma.evaluation.results import EvalReport, EvalRow
from latent_gemma.evaluation.votes import VOTED, VoteMeasured, measure_vote
from latent_gemma.evaluation.voting import VotedAnswer, Voter
from latent_gemma.fast.steps import FastSteps
from latent_gemma.inspection.tables import further_tables, results_table
from latent_gemma.inspection.verdict import verdict
from latent_gemma.inspection.votes import votes_charts, votes_grids
from latent_gemma.inspection.write import write_report
from latent_gemma.model.loading import load_model
from latent_gemma.options.questions import Vote
from latent_gemma.recipes.stage import machine, model_hash, next_free, run_folder
from latent_gemma.recipes.targets import match_of
from latent_gemma.recipes.words import ask_for, writing_mode
from latent_gemma.text.answers import Match, answers_match
from latent_gemma.text.display import displayable
from latent_gemma.text.verify import MathVerifier
from latent_gemma.versions import versions


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
        config.noise, config.max_new_tokens, config.seed, steps=FastSteps(model, compiled=config.compile),
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
        console.print(results_table(report))
        for table in further_tables(report):
            console.print(table)
        page = write_report(report, out)
        console.print(f"report: {page}")
    return page
