"""What one question's thoughts say, and what is answered when one of them is another; nothing here draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Any, Literal

import torch
from torch import Tensor

from latent_gemma.choices import NumThoughts
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.answer_scores import score_answers
from latent_gemma.evaluation.control_thoughts import ControlThoughts
from latent_gemma.evaluation.results import ThoughtStep
from latent_gemma.fast.steps import FastSteps
from latent_gemma.generation.answers import choose_thoughts
from latent_gemma.generation.stream import streamed
from latent_gemma.inspection.lens import read_thoughts
from latent_gemma.model.alignment import aligned_tokens
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.prompt import Frame, Written, own_mode
from latent_gemma.model.thinking import ThoughtRecord

#: What a thought is replaced by: zeros, noise of its norm, a thought of another question, a token's embedding.
EditKind = Literal["zero", "noise", "swap", "token"]


@dataclass(frozen=True)
class Thoughts:
    """The thoughts of one question.

    Args:
        question: the question.
        p: share of the token embedding they were thought with; None is the model's own.
        steps: what each says, layer by layer.
        inputs: what was fed back, [K, D], float32 on the CPU; in recurrence "sequence" [T, D].
        expected: the token each is to say, as text; "" where the question has no such step.
        given: what was put in place of the model's own, [K, D], not a number where that was left; None of none.
    """

    question: str
    p: float | None
    steps: tuple[ThoughtStep, ...]
    inputs: Tensor
    expected: tuple[str, ...]
    given: Tensor | None = None


class Thinker:
    """A model whose thoughts can be read, taken out and replaced.

    Args:
        model: a latent Gemma in evaluation mode.
        tokenizer: its tokenizer.
        max_new_tokens: bound on an answer's tokens.
    """

    def __init__(self, model: LatentReasoningGemmaForCausalLM, tokenizer: Any, max_new_tokens: int = 256) -> None:
        self.model, self.tokenizer, self.max_new_tokens = model, tokenizer, max_new_tokens
        self.latent = model.config.latent
        self.frame, self.mode = Frame(tokenizer, self.latent), own_mode(self.latent)
        self.steps = FastSteps(model, packed=False)

    @property
    def thinks_on(self) -> bool:
        """Whether later thoughts can follow from one that was replaced."""
        return self.latent.recurrence == "append" and self.latent.fed == "hidden"

    def think(
        self,
        question: str,
        num_thoughts: NumThoughts | None = None,
        p: float | None = None,
        written: Sequence[str] = (),
        given: Tensor | None = None,
    ) -> Thoughts:
        """Think about a question, without answering it yet.

        Args:
            question: the question.
            num_thoughts: K, or "auto"; None takes the model's own. Counts in latent mode only.
            p: share of the token embedding; None takes the model's own.
            written: the question's written steps, where they are known.
            given: see `Thoughts`.

        Returns:
            The thoughts; none of a model that does not think.

        Raises:
            ConfigError: for K "auto" in recurrence "sequence".
            DataError: if the question is longer than the model allows.
        """
        k: NumThoughts = self.latent.own_thoughts if num_thoughts is None else num_thoughts
        k = k if self.mode == "latent" else 0
        record = ThoughtRecord()
        with torch.no_grad(), self.model.thinking(p=p):
            if k == "auto":
                prompt = self.frame.prompt(question, self.mode, "auto")
                (k,) = choose_thoughts(self.model, [prompt], self.frame.pad_id)
            length, most = len(self.frame.prompt(question, self.mode, k)), self.model.config.max_position_embeddings
            if length >= most:
                raise DataError(f"a question of {length} tokens, and the model takes {most}", "shorten it")
            forced = None if given is None else given[None].to(self.model.device)
            with self.model.thinking(forced=forced):
                steps = read_thoughts(self.model, self.tokenizer, question, k, layers=True, record=record)
        inputs = torch.zeros(0, self.model.config.hidden_size)
        if steps:
            inputs = (record.stacked_inputs() if record.prefix is None else record.prefix)[0].float().cpu()
        return Thoughts(question, p, tuple(steps), inputs, self._expected(written, k), given)

    def _expected(self, written: Sequence[str], k: int) -> tuple[str, ...]:
        separator = self.frame.text_ids(self.latent.step_separator)
        tokens = [t for step in written for t in aligned_tokens(self.frame.text_ids(step), separator, self.latent)]
        texts = ["" if token is None else self.tokenizer.decode([token]) for token in tokens]
        return tuple([*texts, *[""] * k][:k])

    def answer(self, thoughts: Thoughts) -> Iterator[Written]:
        """The answer that thoughts lead to, token by token; see `streamed`.

        Raises:
            DataError: if the question is longer than the model allows.
        """
        forced = None if thoughts.given is None else [thoughts.given]
        return streamed(
            self.model, self.frame, thoughts.question, self.mode, len(thoughts.steps), self.steps,
            p=thoughts.p, forced=forced, max_new_tokens=self.max_new_tokens,
        )  # fmt: skip

    def replacement(
        self, thoughts: Thoughts, place: int, kind: EditKind, other: Tensor | None = None, token: str | int = "",
        seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """What takes a thought's place, [D].

        Args:
            thoughts: those of the question.
            place: which of them, from 0.
            kind: zeros and noise as in the controls of an evaluation, see `ControlThoughts`.
            other: of "swap": the thought of another question, [D].
            token: of "token": its text, or its id.
            seed: of the noise.

        Returns:
            The input that layer 0 is to see.

        Raises:
            ConfigError: for a thought that is not there, or a text that is not one token.
        """
        if self.latent.recurrence == "sequence" or not 0 <= place < len(thoughts.steps):
            raise ConfigError(
                f"there is no thought {place + 1} to take out" if self.latent.recurrence != "sequence" else
                'the thoughts of recurrence "sequence" are the positions of its prompt', "choose one of the cells"
            )  # fmt: skip
        if kind == "swap":
            if other is None:
                raise ConfigError("there is no other thought", "ask another question beside it first")
            return other
        if kind == "token":
            ids = [token] if isinstance(token, int) else self.frame.text_ids(token)
            if len(ids) != 1:
                raise ConfigError(f"{token!r} is {len(ids)} tokens", "a thought takes the place of one")
            with torch.no_grad():
                return self.model.model.embed_tokens(torch.tensor(ids, device=self.model.device))[0].float().cpu()
        return ControlThoughts([thoughts.inputs], thoughts.inputs, seed).of(kind)[0][place]

    def edit(self, thoughts: Thoughts, edits: Mapping[int, Tensor], thinks_on: bool) -> Thoughts:
        """Think again with some thoughts replaced.

        Args:
            thoughts: those of the question, as they were thought.
            edits: place -> what is put there, [D].
            thinks_on: the thoughts behind one that was replaced follow from it; otherwise they stay what they were, as
                in the controls of an evaluation. See `Thinker.thinks_on`.

        Returns:
            The thoughts.
        """
        given = thoughts.inputs.clone()
        if thinks_on and self.thinks_on:
            given.fill_(float("nan"))
        for place, replaced in edits.items():
            given[place] = replaced
        again = self.think(thoughts.question, len(thoughts.steps), thoughts.p, given=given)
        return replace(again, expected=thoughts.expected)

    def odds(self, several: Sequence[Thoughts], answers: Sequence[Written]) -> list[list[float]]:
        """How probable answers are behind thoughts.

        Args:
            several: thoughts, of any questions.
            answers: the answers.

        Returns:
            For each of the thoughts the probability of each answer, with its end where it had come to one.
        """
        asked = [(one, written) for one in several for written in answers]
        prompts = [self.frame.prompt(one.question, self.mode, len(one.steps)) for one, _ in asked]
        texts = [(self.frame.text_ids(written.answer), written.finished) for _, written in asked]
        ids = [[*text, self.frame.end_id] if finished or not text else text for text, finished in texts]
        inputs = [one.inputs for one, _ in asked] if any(one.steps for one in several) else []
        found = [exp(logprob) for logprob in score_answers(self.model, prompts, ids, inputs, self.frame.pad_id)]
        return [found[start : start + len(answers)] for start in range(0, len(found), len(answers))]
