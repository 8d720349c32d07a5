"""`latent-gemma vote`: one question answered by consensus; `eval --votes` measures what consensus is worth."""

from rich.console import Console
from rich.text import Text

from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.voting import VotedAnswer, Voter
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model.loading import load_model
from latent_gemma.options.questions import Vote
from latent_gemma.ranges import TEMPERATURES, parse_numbers
from latent_gemma.recipes.words import ask_for, refuse_thoughts, writing_mode
from latent_gemma.text.columns import Columns
from latent_gemma.text.display import displayable


def run_vote(config: Vote) -> None:
    """Answer a question on the terminal.

    Args:
        config: see `Vote`.

    Raises:
        LatentGemmaError: for anything in the configuration, the question or the model that cannot be used.
    """
    temperatures = parse_numbers(config.temperatures, float, "--temperatures", TEMPERATURES)
    if not config.question.strip():
        raise ConfigError("a vote is on one question", 'write vote RUN "2+3="; eval RUN --data FILE --votes 5 measures')
    model, tokenizer = load_model(config.model)
    ask_for(model, config.format, config.system)
    mode = writing_mode(model.config.latent, config.mode)
    refuse_thoughts(mode, k=config.k, noise=config.noise)
    voter = Voter(
        model, tokenizer, temperatures, config.traces, mode, config.k,
        config.noise, config.max_new_tokens, config.seed, steps=FastSteps(model, compiled=config.compile),
    )  # fmt: skip
    _show(voter(config.question), config.show_traces)


def _show(voted: VotedAnswer, traces: bool) -> None:
    console = Console()
    if traces:
        rows = [
            (f"{trace.temperature:g}", trace.written.answer, f"{trace.logprob:.3f}", trace.written.reasoning)
            for trace in voted.traces
        ]
        console.print(Columns(("temperature", "answer", "log-probability", "reasoning"), rows))
    if voted.answer is None:
        console.print("no trace has an answer", style="dim")
        return
    winner = voted.consensus.winner
    reasoning = voted.traces[winner].written.reasoning if winner is not None and not traces else ""
    if reasoning:
        console.print(Text(displayable(reasoning), style="dim"))
    agreement = f"  {voted.consensus.votes} of {voted.consensus.total} traces agree"
    console.print(Text.assemble((displayable(voted.answer), "bold"), (agreement, "dim")))
