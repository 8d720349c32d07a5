"""`latent-gemma ask` and `latent-gemma chat`: questions to a trained model, its thoughts on request."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.paths import explore_paths
from latent_gemma.inspection.lens import read_thoughts
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import load_model
from latent_gemma.model.prompt import Frame
from latent_gemma.options.questions import Ask, Asking, Chat
from latent_gemma.recipes.words import writing_mode
from latent_gemma.text.display import displayable
from latent_gemma.text.language import ask_in, translation_request


def _answer(
    model: LatentReasoningGemmaForCausalLM, tokenizer: Any, question: str, asking: Asking, console: Console
) -> None:
    if asking.translate:
        question = translation_request(question, asking.translate)
    else:
        question = ask_in(question, asking.answer_language)
    latent = model.config.latent
    mode = writing_mode(latent, asking.mode)
    k: NumThoughts = 0 if mode != "latent" else latent.own_thoughts if asking.k is None else asking.k
    if asking.paths > 1:
        paths = explore_paths(
            model, tokenizer, question=question, k=asking.paths, num_thoughts=k, mode=mode,
            max_length=model.config.max_position_embeddings,
        )  # fmt: skip
        for path in paths:
            console.print(Text(displayable(f"{path.confidence:6.1%}  {path.answer}")))
        return
    frame = Frame(tokenizer, latent)
    with model.thinking(steps=FastSteps(model, packed=False)):
        batch = answer_batch(model, frame, [question], mode, k, asking.p, max_new_tokens=asking.max_new_tokens)
    answer = batch.answers[0]
    if answer.reasoning:
        console.print(Text(displayable(answer.reasoning), style="dim"))
    if asking.thoughts and k:
        with model.thinking(p=asking.p):
            steps = read_thoughts(model, tokenizer, question, batch.num_thoughts[0])
        table = Table("step", "says", "norm", "entropy", box=None)
        for step in steps:
            said = "  ".join(f"{token!r} {p:.0%}" for token, p in zip(step.tokens, step.probabilities, strict=True))
            table.add_row(str(step.step), Text(displayable(said)), f"{step.norm:.2f}", f"{step.entropy_nats:.2f}")
        console.print(table)
    console.print(Text(displayable(answer.answer), style="bold"))


def run_ask(config: Ask) -> None:
    """Answer one question on the terminal."""
    if not config.question.strip():
        raise ConfigError("the question is empty", 'write it in quotes: latent-gemma ask RUN "2+3="')
    model, tokenizer = load_model(config.model)
    _answer(model, tokenizer, config.question, config.asking, Console())


def run_chat(config: Chat) -> None:
    """Answer questions until an empty line or the end of input."""
    model, tokenizer = load_model(config.model)
    console = Console()
    interactive = sys.stdin.isatty()
    if interactive:
        console.print("one question a line, an empty line ends", style="dim")
    while True:
        try:
            question = input("? " if interactive else "")
            question.encode("utf-8")
        except (EOFError, KeyboardInterrupt):
            return
        except UnicodeError:
            console.print("this question is no valid UTF-8: write it once more", style="dim")
            continue
        if not question.strip():
            return
        _answer(model, tokenizer, question, config.asking, console)
