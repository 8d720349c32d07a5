"""Accuracy over K and over p, and the controls that tell whether the thoughts matter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latent_gemma.choices import NumThoughts
from latent_gemma.data.example import Example
from latent_gemma.evaluation.answer_scores import score_answers
from latent_gemma.evaluation.answering import Batch, answer_batch
from latent_gemma.evaluation.control_thoughts import ControlThoughts
from latent_gemma.evaluation.expected_steps import expected_thoughts
from latent_gemma.evaluation.items import Cost, Extra, Item, Setting, single_item
from latent_gemma.evaluation.log import ItemLog, Progress, answer_missing
from latent_gemma.evaluation.peak_memory import peak_gib, reset_peak
from latent_gemma.evaluation.points import EvalSettings, Point, ordered_thoughts, plan
from latent_gemma.evaluation.results import KEEP, EvalRow
from latent_gemma.evaluation.row_counts import count_row, further_figures
from latent_gemma.evaluation.vote_rows import VoteMeasured, measure_vote
from latent_gemma.evaluation.voting import Voter
from latent_gemma.fast.steps import FastSteps
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Mode, own_mode
from latent_gemma.text.answers import grade
from latent_gemma.text.language import ask_in, wanted_language


@dataclass(frozen=True)
class Measured:
    """One row and what it was counted from.

    Args:
        row: the row.
        items: one an example.
        thoughts: what was fed back, one tensor an example; None where the answer was found in the log.
        vote: what the vote is worth, where the row is one.
    """

    row: EvalRow
    items: list[Item]
    thoughts: list[Tensor | None]
    vote: VoteMeasured | None = None


class Evaluator:
    """Measures one model on one list of examples.

    Args:
        model: a latent Gemma.
        tokenizer: its tokenizer.
        examples: the questions, never ones the model was trained on.
        settings: what is measured.
        label: the method's name in tables.
        log: what is finished already, and where what gets finished is kept; None answers everything anew.
        progress: told how many answers have been generated.
    """

    def __init__(
        self, model: LatentReasoningGemmaForCausalLM,
        tokenizer: Any, examples: Sequence[Example], settings: EvalSettings, label: str,
        log: ItemLog | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.model, self.examples, self.settings, self.label = model.eval(), list(examples), settings, label
        self.frame = Frame(tokenizer, model.config.latent, remembers=True)
        self.k: NumThoughts = model.config.latent.own_thoughts
        self.p = model.config.latent.p
        self.log, self.progress = log, progress
        self.steps = FastSteps(model, compiled=settings.compiled)

    def setting(self, point: Point, mode: Mode) -> Setting:
        """The setting of a point, as its items and its row name it."""
        return point.setting(self.label, self.p, mode)

    def measure(
        self,
        mode: Mode | None = None,
        k: NumThoughts = 0,
        p: float | None = None,
        control: str = "none",
        forced: Sequence[Tensor] | None = None,
        donors: Sequence[int] | None = None,
    ) -> Measured:
        """Answer every example under one setting.

        Args:
            mode: see `answer_batch`; None takes what the model was trained for.
            k: latent steps; "auto" as many as the model chooses, or as there are thoughts to use.
            p: share of the token embedding; None as configured.
            control: name of what stands in the thought positions.
            forced: thoughts to use instead, one tensor an example.
            donors: of each example, the one whose thoughts those are.

        Returns:
            The row, the items and the thoughts.
        """
        mode = mode or own_mode(self.frame.latent)
        setting = self.setting(Point(k, p, control), mode)
        thoughts: list[Tensor | None] = [None] * len(self.examples)

        def answer(indices: Sequence[int]) -> list[Item]:
            reset_peak(self.model.device)
            batch = [self.examples[index] for index in indices]
            given = None if forced is None else [forced[index] for index in indices]
            answered = self._ask(batch, mode, k, p, given, self.settings.max_new_tokens)
            for index, thought in zip(indices, answered.thoughts, strict=False):  # without latent steps there are none
                thoughts[index] = thought
            taken = answered.num_thoughts
            cost = Cost(answered.seconds / len(batch), peak_gib(self.model.device), self.frame.latent.passes_bound)
            scores: Sequence[float | None] = [None] * len(batch)
            if self._is_scored(Point(k, p, control)):
                scores = self._scores(indices, mode, taken, p, answered.thoughts)
            return [
                single_item(
                    setting, index, example, self._wanted(example), written,
                    grade(written.graded, example.answers, self.settings.match), cost,
                    Extra(steps, score, self._is_donors(written.graded, index, donors), self._expected(index, k)),
                )
                for index, example, written, steps, score in zip(
                    indices, batch, answered.answers, taken, scores, strict=True
                )
            ]  # fmt: skip

        log = ItemLog() if self.log is None else self.log
        size = self.settings.batch_size
        items = answer_missing(log, setting, self.examples, size, answer, self.progress, self._longest_first)
        names = self.settings.metrics if control == "none" else ()
        return Measured(count_row(items, further_figures(items, names, self.settings.encoder)), items, thoughts)

    @cached_property
    def _longest_first(self) -> list[int]:
        """The questions by length: batches of like length hold little padding, and the first needs most memory."""
        asked = [ask_in(example.question, self.settings.answer_language) for example in self.examples]
        lengths = [len(self.frame.question_ids(question)) for question in asked]
        return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)

    def _ask(
        self,
        batch: Sequence[Example],
        mode: Mode,
        k: NumThoughts,
        p: float | None,
        forced: Sequence[Tensor] | None,
        tokens: int,
    ) -> Batch:
        questions = [ask_in(example.question, self.settings.answer_language) for example in batch]
        with self.model.thinking(steps=self.steps):
            return answer_batch(self.model, self.frame, questions, mode, k, p, forced, tokens)

    @cached_property
    def _answers(self) -> list[list[int]]:
        """The right answers with their ends, in ids."""
        return [[*self.frame.text_ids(example.answer), self.frame.end_id] for example in self.examples]

    def _is_scored(self, point: Point) -> bool:
        """Whether the right answer is scored: with all controls everywhere, else where it tells most, for it costs."""
        main = point.k in (self.k, 0) and point.p is None and point.control in ("none", "swap")
        return main or self.settings.controls == "full"

    def _scores(
        self, indices: Sequence[int], mode: Mode, taken: Sequence[int], p: float | None, thoughts: Sequence[Tensor]
    ) -> Sequence[float | None]:
        """Log-probability of the right answer to each question of a batch; None behind written reasoning."""
        if mode == "words":
            return [None] * len(indices)
        prompts = [
            self.frame.prompt(ask_in(self.examples[index].question, self.settings.answer_language), mode, steps)
            for index, steps in zip(indices, taken, strict=True)
        ]
        answers = [self._answers[index] for index in indices]
        limit = self.model.config.max_position_embeddings
        fits = [len(prompt) + len(answer) <= limit for prompt, answer in zip(prompts, answers, strict=True)]
        if not all(fits):
            return [None] * len(indices)
        with self.model.thinking(p=p):
            return score_answers(self.model, prompts, answers, thoughts, self.frame.pad_id)

    def _is_donors(self, graded: str, index: int, donors: Sequence[int] | None) -> bool | None:
        """Whether an answer is right for the question that the thoughts came from, where that has another answer."""
        if donors is None:
            return None
        own, donor = self.examples[index], self.examples[donors[index]]
        if any(self.settings.match(answer, own.answers) for answer in donor.answers):
            return None
        return grade(graded, donor.answers, self.settings.match).lenient

    def _expected(self, index: int, k: NumThoughts) -> int | None:
        return expected_thoughts(self.examples[index], self.frame) if k == "auto" else None

    def _wanted(self, example: Example) -> str:
        return wanted_language(example.question, example.language, self.settings.answer_language)

    def seconds(self, mode: Mode, questions: Sequence[Example]) -> float:
        """Ask questions in one batch in the main setting, outside of any log.

        Args:
            mode: see `answer_batch`.
            questions: the questions.

        Returns:
            Wall-clock seconds an answer.
        """
        k = self.k if mode == "latent" else 0
        return self._ask(questions, mode, k, None, None, self.settings.max_new_tokens).seconds / len(questions)

    def vote(self, mode: Mode, k: NumThoughts, p: float | None = None) -> Measured:
        """Answer every example by a vote.

        Args:
            mode: see `answer_batch`.
            k: latent steps.
            p: share of the token embedding; None as configured.

        Returns:
            The row, the items and what the vote is worth.
        """
        settings = self.settings
        voter = Voter(
            self.model, self.frame.tokenizer, settings.temperatures, settings.votes, mode, k, settings.noise,
            settings.max_new_tokens, settings.seed, p, self.steps,
        )  # fmt: skip
        size = max(1, settings.batch_size // settings.votes)
        label = self.setting(Point(k, p, votes=settings.votes), mode).label
        found = measure_vote(
            voter, self.examples, label, size, settings.match, settings.answer_language, self.log, self.progress
        )
        figures = further_figures(found.items, settings.metrics, settings.encoder)
        return Measured(replace(found.row, figures=found.row.figures | figures), found.items, [], found)

    def run(self, say: Callable[[str], None] | None = None, mode: Mode | None = None) -> list[Measured]:
        """Measure the main setting, its controls, the curves and the votes.

        Args:
            say: told what comes next.
            mode: see `answer_batch`; None takes what the model was trained for.

        Returns:
            The main setting first, each setting once; of the others the thoughts are not kept.
        """
        mode = mode or own_mode(self.frame.latent)
        found: list[Measured] = []
        controls: ControlThoughts | None = None
        for point in plan(self.k, self.p, mode, self.settings, ordered_thoughts(self.frame.latent, self.k)):
            if len(self.examples) < 2 and (point.control == "swap" or point.control.startswith(KEEP)):
                continue
            setting = self.setting(point, mode)
            if say is not None:
                say(f"{setting.label}" + (f", K={point.k}, p={setting.p:g}, {point.control}" if point.k else ""))
            if point.votes:
                found.append(self.vote(mode, point.k, point.p))
                continue
            forced, donors = None, None
            if point.control != "none" and not self._is_finished(setting):
                if controls is None:
                    controls = self.control_thoughts(self._all_thoughts(found[0]))
                forced = controls.of(point.control)
                donors = controls.donors if point.control == "swap" else None
            measured = self.measure(mode, point.k, point.p, point.control, forced, donors)
            # Only the main setting's thoughts are read again, and those of every setting would fill the memory.
            found.append(replace(measured, thoughts=[]) if found else measured)
        return found

    def _is_finished(self, setting: Setting) -> bool:
        return self.log is not None and len(self.log.finished(setting)) == len(self.examples)

    def _all_thoughts(self, main: Measured) -> list[Tensor]:
        """The thoughts of the main setting; those of answers that were found in the log are thought again."""
        size, order = self.settings.batch_size, self._longest_first
        for indices in (order[start : start + size] for start in range(0, len(order), size)):
            if any(main.thoughts[index] is None for index in indices):
                batch = self._ask([self.examples[index] for index in indices], "latent", self.k, None, None, 1)
                for index, thought in zip(indices, batch.thoughts, strict=True):
                    main.thoughts[index] = thought
        return [thought for thought in main.thoughts if thought is not None]

    def control_thoughts(self, thoughts: Sequence[Tensor]) -> ControlThoughts:
        """What each control puts into the thought positions, of the model's own thoughts, [K, D] an example."""
        ids = torch.tensor([self.frame.latent.thought_id], device=self.model.device)
        with torch.no_grad():
            pause = self.model.model.embed_tokens(ids).float().cpu()
        aligned = self.frame.latent.recurrence != "sequence"
        return ControlThoughts(thoughts, pause, self.settings.seed, aligned)
