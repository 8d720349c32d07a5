"""`latent-gemma ask`: one question to a trained model, its answer as it is written, its thoughts on request."""

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from latent_gemma.choices import Mode, NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.results import ThoughtStep
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import answer
from latent_gemma.inspection.lens import read_thoughts
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame, Written
from latent_gemma.model.traces import Trace
from latent_gemma.options.questions import Ask, Asking
from latent_gemma.recipes.words import refuse_thoughts, writing_mode
from latent_gemma.text.columns import Columns
from latent_gemma.text.display import displayable
from latent_gemma.text.language import ask_in, translation_request


@dataclass(frozen=True)
class Reply:
    """What came of one question.

    Args:
        question: as the user typed it.
        asked: as it was put to the model.
        mode: it was asked in.
        traces: of the answer, the most confident first; several where first tokens were explored.
        steps: what each latent step says, where that was asked for.
    """

    question: str
    asked: str
    mode: Mode
    traces: tuple[Trace, ...]
    steps: tuple[ThoughtStep, ...] = ()

    @property
    def best(self) -> Trace:
        """The trace whose answer counts."""
        return self.traces[0]

    def record(self) -> dict[str, Any]:
        """It as an object for JSON; what was not asked for is left out."""
        best, kept = self.best, ("step", "tokens", "probabilities", "norm", "entropy_nats")
        said: dict[str, Any] = {"question": self.question, "answer": best.written.answer, "mode": self.mode}
        said |= {"reasoning": best.written.reasoning} if best.written.reasoning else {}
        said |= {"k": best.num_thoughts} if self.mode == "latent" else {}
        said |= {} if best.confidence is None else {"confidence": best.confidence}
        if self.steps:
            said["thoughts"] = [{name: asdict(step)[name] for name in kept} for step in self.steps]
        if len(self.traces) > 1:
            said["traces"] = [
                {"answer": each.written.answer, "reasoning": each.written.reasoning, "confidence": each.confidence}
                for each in self.traces
            ]
        return said


class Asker:
    """Asks a model as the options say.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        asking: the options.
        measures: say how confident the model is of every answer.

    Raises:
        ConfigError: for options that mean nothing to this model.
    """

    def __init__(
        self, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, asking: Asking, measures: bool = False
    ) -> None:
        self.model, self.tokenizer, self.asking, self.measures = model, tokenizer, asking, measures
        latent = model.config.latent
        self.mode = writing_mode(latent, asking.mode)
        refuse_thoughts(self.mode, k=asking.k, p=asking.p, thoughts=asking.thoughts)
        own = latent.own_thoughts if asking.k is None else asking.k
        self.k: NumThoughts = own if self.mode == "latent" else 0
        if asking.thoughts and not self.k:
            raise ConfigError("--thoughts with K = 0, where there are none", "leave it out, or give --k 4")
        if asking.paths > model.config.vocab_size:
            raise ConfigError(f"--paths {asking.paths}", f"there are {model.config.vocab_size} first tokens")

    def __call__(self, question: str, frame: Frame | None = None, streamer: BaseStreamer | None = None) -> Reply:
        """Answer a question.

        Args:
            question: as the user typed it.
            frame: with the earlier turns of a conversation; None takes the model's own.
            streamer: see `answer`; told nothing where several paths are explored.

        Returns:
            What came of it.

        Raises:
            DataError: if it is longer than the model allows.
        """
        asking, frame = self.asking, frame or Frame(self.tokenizer, self.model.config.latent)
        asked = self.as_asked(question)
        with self.model.thinking(steps=FastSteps(self.model, packed=False)):
            (traces,) = answer(
                self.model, frame, [asked], self.mode, self.k, asking.p, temperatures=[0.0] * asking.paths,
                max_new_tokens=asking.max_new_tokens, branches=self.measures or asking.paths > 1,
                streamer=streamer if asking.paths == 1 else None,
            ).traces  # fmt: skip
        traces = sorted(traces, key=lambda trace: -(trace.confidence or 0.0))
        with self.model.thinking(p=asking.p) if asking.thoughts else nullcontext():
            count = traces[0].num_thoughts if asking.thoughts else 0
            steps = read_thoughts(self.model, self.tokenizer, asked, count, frame=frame)
        return Reply(question, asked, self.mode, tuple(traces), tuple(steps))

    def as_asked(self, question: str) -> str:
        """A question as it is put to the model."""
        if self.asking.translate:
            return translation_request(question, self.asking.translate)
        return ask_in(question, self.asking.answer_language)


class Speech(BaseStreamer):
    """Prints reasoning and answer as their tokens come, the reasoning dimly.

    Args:
        console: where.
        frame: how they are read.
        mode: the question is asked in.
    """

    def __init__(self, console: Console, frame: Frame, mode: Mode) -> None:
        self.console, self.frame, self.mode = console, frame, mode
        self.ids: list[int] = []
        self.shown = ""

    def put(self, value: Tensor) -> None:
        """Take the next tokens."""
        self.ids += value.tolist()
        written = self.frame.read_open(self.ids, self.mode)
        # a character of several tokens reads as this one until its last
        self._print(*(part.rstrip("\ufffd") for part in (written.reasoning, written.answer)))

    def end(self) -> None:
        """All tokens are there; what they come to is `finish`'s to know."""

    def finish(self, written: Written) -> None:
        """Print what is missing; all of it where it came to something else than its beginning looked like."""
        if not self._print(written.reasoning, written.answer):
            self.console.out("")
            self.shown = ""
            self._print(written.reasoning, written.answer)
        self.console.out("")

    def _print(self, reasoning: str, answer: str) -> bool:
        """Print what is new; False where what was printed is not how it begins."""
        before = f"{reasoning}\n" if reasoning and answer else reasoning
        text, shown = before + answer, len(self.shown)
        if not text.startswith(self.shown):
            return False
        for part, style in ((before[shown:], "dim"), (text[max(shown, len(before)) :], "bold")):
            self.console.out(displayable(part), style=style, end="", highlight=False)
        self.shown = text
        return True


def show(reply: Reply, speech: Speech) -> None:
    """Print a reply, of which an answer may have been printed while it was written.

    Args:
        reply: it.
        speech: what printed it.
    """
    console = speech.console
    if len(reply.traces) == 1:
        speech.finish(reply.best.written)
    else:
        for trace in reply.traces:
            line = f"{trace.confidence:7.2%}  {trace.written.answer}"
            console.out(displayable(line), highlight=False)
    if reply.steps:
        rows = [
            (
                str(step.step),
                "  ".join(f"{token!r} {p:.0%}" for token, p in zip(step.tokens, step.probabilities, strict=True)),
                f"{step.norm:.2f}", f"{step.entropy_nats:.2f}",
            )
            for step in reply.steps
        ]  # fmt: skip
        console.print(Columns(("step", "says", "norm", "entropy"), rows))


def run_ask(config: Ask) -> None:
    """Answer one question on the terminal.

    Args:
        config: see `Ask`.

    Raises:
        LatentGemmaError: for anything in the configuration, the question or the model that cannot be used.
    """
    if not config.question.strip():
        raise ConfigError("the question is empty", 'write it in quotes: latent-gemma ask RUN "2+3="')
    model, tokenizer = load_model(config.model)
    asker = Asker(model, tokenizer, config.asking, measures=config.json)
    if config.json:
        record = asker(config.question).record()
        line = json.dumps(record, ensure_ascii=False)
        print(line if displayable(line) == line else json.dumps(record))
        return
    speech = Speech(Console(), Frame(tokenizer, model.config.latent), asker.mode)
    show(asker(config.question, streamer=speech), speech)
