"""`latent-gemma vote`: one question answered by consensus; `eval --votes` measures what consensus is worth."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from latent_gemma.config import TEMPERATURES, Amount, Count, Range, Seed, Size, check_ranges, parse_numbers
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.voting import VotedAnswer, Voter
from latent_gemma.model.config import WordsFormat
from latent_gemma.model.loading import load_model
from latent_gemma.model.static import Prepared
from latent_gemma.recipes.words import AskedMode, ask_for, writing_mode
from latent_gemma.text.display import displayable


@dataclass(frozen=True)
class Vote:
    """Answer a question by a vote of several traces.

    Args:
        model: a run folder, model directory, GGUF file or hub name.
        question: the question to answer.
        temperatures: of the traces.
        traces: traces in a vote, the temperatures taken in turn; None takes one each.
        mode: "auto" does what the model was trained for; "latent" thinks, "words" writes its steps, "none" answers at
            once.
        k: latent steps in latent mode; None takes the model's own number.
        noise: noise on each trace's thoughts in latent mode, in units of their RMS.
        format: how a model that was never trained here writes its words; None keeps the model's own way.
        system: text before every question, in the user's turn; None keeps the model's own.
        show_traces: print every trace.
        max_new_tokens: bound on generated tokens of a trace.
        compile: compile the steps of thinking and decoding, which takes half a minute or more at first.
        seed: of the sampling.
    """

    model: Positional[str]
    question: Positional[str] = ""
    temperatures: str = "0.2,0.4,0.6,0.8,1.0"
    traces: Annotated[int, Range(1, 50_000)] | None = None
    mode: AskedMode = "auto"
    k: Size | None = None
    noise: Amount = 0.0
    format: WordsFormat | None = None
    system: str | None = None
    show_traces: bool = False
    max_new_tokens: Count = 256
    compile: bool = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges(self)


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
    voter = Voter(
        model, tokenizer, temperatures, config.traces, writing_mode(model.config.latent, config.mode), config.k,
        config.noise, config.max_new_tokens, config.seed, prepared=Prepared(model, config.compile),
    )  # fmt: skip
    _show(voter(config.question), config.show_traces)


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
