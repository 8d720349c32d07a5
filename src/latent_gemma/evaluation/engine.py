"""Accuracy over K and over p, and the controls that tell whether the thoughts matter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_gemma.data.example import Example
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.intervals import wilson_interval
from latent_gemma.evaluation.metrics.bertscore import DEFAULT_ENCODER
from latent_gemma.evaluation.metrics.registry import Outputs, measure
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.model.prompt import Frame, Mode, Written
from latent_gemma.text.answers import Grade, Match, answers_match, grade
from latent_gemma.text.language import Language

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EvalSettings:
    """What is measured.

    Args:
        ks: numbers of latent steps to try at the main p.
        ps: shares of the token embedding to try at the main K.
        controls: measure zeroed, noise, swapped and pause thoughts.
        batch_size: questions answered at once.
        max_new_tokens: bound on generated tokens.
        seed: of the noise control.
        metrics: further metrics of the main setting, names of `METRICS`.
        language: what the answers should be written in, for those metrics.
        encoder: of BERTScore: a hub name or a local directory.
        match: how answers are compared.
    """

    ks: tuple[int, ...] = ()
    ps: tuple[float, ...] = ()
    controls: bool = True
    batch_size: int = 64
    max_new_tokens: int = 256
    seed: int = 0
    metrics: tuple[str, ...] = ()
    language: Language = "en"
    encoder: str = DEFAULT_ENCODER
    match: Match = answers_match


@dataclass(frozen=True)
class Measured:
    """One row and what it was counted from."""

    row: EvalRow
    answers: list[Written]
    grades: list[Grade]
    thoughts: list[Tensor]


class Evaluator:
    """Measures one model on one list of examples.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        examples: the questions, never ones the model was trained on.
        settings: what is measured.
        label: the method's name in tables.
    """

    def __init__(
        self, model: Any, tokenizer: Any, examples: Sequence[Example], settings: EvalSettings, label: str
    ) -> None:
        self.model, self.examples, self.settings, self.label = model.eval(), list(examples), settings, label
        self.frame = Frame(tokenizer, model.config.latent)
        self.k, self.p = model.config.latent.num_thoughts, model.config.latent.p

    def measure(
        self,
        mode: Mode = "latent",
        k: int = 0,
        p: float | None = None,
        control: str = "none",
        forced: Sequence[Tensor] | None = None,
    ) -> Measured:
        """Answer every example under one setting.

        Args:
            mode: see `answer_batch`.
            k: latent steps.
            p: share of the token embedding; None as configured.
            control: name of what stands in the thought positions.
            forced: thoughts to use instead, one tensor an example.

        Returns:
            The row, the answers and the thoughts.
        """
        answers: list[Written] = []
        thoughts: list[Tensor] = []
        seconds, size = 0.0, self.settings.batch_size
        for start in range(0, len(self.examples), size):
            batch = answer_batch(
                self.model,
                self.frame,
                [example.question for example in self.examples[start : start + size]],
                mode,
                k,
                p,
                None if forced is None else forced[start : start + size],
                self.settings.max_new_tokens,
            )
            answers += batch.answers
            thoughts += batch.thoughts
            seconds += batch.seconds
        pairs = list(zip(answers, self.examples, strict=True))
        grades = [grade(answer.graded, example.answers, self.settings.match) for answer, example in pairs]
        total, correct = len(answers), sum(result.lenient for result in grades)
        low, high = wilson_interval(correct, total)
        row = EvalRow(
            label=self.label,
            k=k,
            p=(self.p if p is None else p) if k else None,
            control=control,
            correct=correct,
            strict=sum(result.strict for result in grades),
            total=total,
            low=low,
            high=high,
            tokens_per_answer=sum(answer.tokens for answer in answers) / total,
            passes_per_answer=sum(answer.tokens + k for answer in answers) / total,
            seconds_per_answer=seconds / total,
            complete=sum(answer.complete for answer in answers) if mode == "words" else None,
            truncated=sum(not answer.finished for answer in answers),
            figures=self._figures(answers) if control == "none" else {},
        )
        return Measured(row, answers, grades, thoughts)

    def _figures(self, answers: Sequence[Written]) -> dict[str, float | str]:
        if not self.settings.metrics:
            return {}
        outputs = Outputs(
            [answer.answer for answer in answers],
            [list(example.answers) for example in self.examples],
            self.settings.language,
            encoder=self.settings.encoder,
        )
        return measure(self.settings.metrics, outputs)

    def run(self, progress: Progress | None = None) -> list[Measured]:
        """Measure the main setting, its controls, and the curves.

        Args:
            progress: told what comes next.

        Returns:
            The main setting first, each setting once.
        """
        say = progress or (lambda text: None)
        say(f"{self.label}: K={self.k}, p={self.p:g}")
        main = self.measure(k=self.k)
        found = [main]
        if self.k > 0:
            ks = {*self.settings.ks, *([0] if self.settings.controls else [])} - {self.k}
            for k in sorted(ks):
                say(f"{self.label}: K={k}")
                found.append(self.measure(k=k))
            for p in sorted(set(self.settings.ps) - {self.p}):
                say(f"{self.label}: p={p:g}")
                found.append(self.measure(k=self.k, p=p))
            if self.settings.controls:
                for name, forced in self.control_thoughts(main.thoughts).items():
                    say(f"{self.label}: thoughts {name}")
                    found.append(self.measure(k=self.k, control=name, forced=forced))
        return found

    def control_thoughts(self, thoughts: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """What each control puts into the thought positions.

        Args:
            thoughts: the model's own, one tensor [K, D] an example.

        Returns:
            Control name -> thoughts: zeros; Gaussian noise of the same norm, position by position; the thoughts of
            the next example (the last takes the first's); the plain embedding of the thought token.
        """
        generator = torch.Generator().manual_seed(self.settings.seed)
        noise = []
        for own in thoughts:
            drawn = torch.randn(own.shape, generator=generator)
            noise.append(drawn / drawn.norm(dim=-1, keepdim=True) * own.norm(dim=-1, keepdim=True))
        ids = torch.tensor([self.frame.latent.thought_id], device=self.model.device)
        with torch.no_grad():
            pause = self.model.model.embed_tokens(ids).float().cpu()
        controls = {
            "zero": [torch.zeros_like(own) for own in thoughts],
            "noise": noise,
            "swap": [*thoughts[1:], *thoughts[:1]],
            "pause": [pause.expand(len(own), -1) for own in thoughts],
        }
        if len(thoughts) < 2:
            del controls["swap"]
        return controls
