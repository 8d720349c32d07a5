"""The thin adapter between rewards, which are functions of texts, and TRL, which asks for them by batches of ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from latent_gemma.config import Range, Whole, check_ranges
from latent_gemma.errors import ConfigError
from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.text.answers import answers_match
from latent_gemma.text.rewards import (
    BrokenTagsReward,
    CorrectnessReward,
    FormatReward,
    ShortReasoningReward,
    StepsReward,
    load_reward,
    reward_name,
)
from latent_gemma.text.verify import MathVerifier

Score = Annotated[float, Range(-1e6, 1e6)]


@dataclass(frozen=True)
class RewardSettings:
    """What a completion is worth. Each question's rewards are divided by their own standard deviation, so only the
    sizes relative to each other matter.

    Args:
        format_score: both pairs of tags, once and in order, and nothing outside of them.
        correct_score: the right answer in the answer tags (for a latent model: as the whole text); outside of them 0.4
            of it.
        broken_score: a tag without its partner, repeated or out of order.
        short_score: reasoning that shows no work: of fewer than `least_chars` characters, of dots, of one phrase over
            and over, or copied from the question.
        least_chars: see `short_score`.
        steps_score: times the share of equations in the reasoning that are true, arithmetic checked exactly; 0, as
            published, leaves it out.
        equality: "exact" compares numbers exactly and other answers by spelling; "math" also compares expressions,
            by math-verify in a process of its own; "auto" does so where the data's format is of mathematics.
        rewards: further rewards, each "module:function" of (question, completion, accepted) in the current folder or
            installed; one column each in the log.
    """

    format_score: Score = 2.0
    correct_score: Score = 25.0
    broken_score: Score = -15.0
    short_score: Score = -2.0
    least_chars: Whole = 5
    steps_score: Score = 0.0
    equality: Literal["auto", "exact", "math"] = "auto"
    rewards: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)

    def compares_math(self, kind: str) -> bool:
        """Whether answers to data of this kind are compared as expressions."""
        return self.equality == "math" or (self.equality == "auto" and kind == "math")

    def build(self, mode: Mode, kind: str = "text") -> list[Any]:
        """The rewards that apply: a latent model writes no tags and no reasoning, so it is paid for answers alone.

        Args:
            mode: of the prompts.
            kind: of the data's answers; see `answer_kind`.

        Returns:
            Those with a score that is not zero, then the user's own.

        Raises:
            ConfigError: if none is left, a user's reward cannot be imported, or two share a name.
        """
        match = MathVerifier().equal if self.compares_math(kind) else answers_match
        if mode != "words":
            chosen: list[Any] = [CorrectnessReward(self.correct_score, match, untagged_share=1.0)]
        else:
            shaped = (
                FormatReward(self.format_score),
                BrokenTagsReward(self.broken_score),
                ShortReasoningReward(self.short_score, self.least_chars),
                StepsReward(self.steps_score),
            )
            chosen = [CorrectnessReward(self.correct_score, match), *shaped]
        chosen = [reward for reward in chosen if reward.score]
        chosen += [load_reward(path) for path in self.rewards]
        names = [reward_name(reward) for reward in chosen]
        if not chosen:
            raise ConfigError("no reward is left", "give one of them a score that is not zero")
        if len(set(names)) < len(names):
            raise ConfigError(f"two rewards share a name among {', '.join(names)}", "rename your function")
        return chosen


@dataclass(frozen=True)
class Sample:
    """One scored completion: its question, its text with tags, and reward name -> score."""

    question: str
    completion: str
    scores: dict[str, float]


class RewardBook:
    """Scores completions for TRL, and remembers the last batch for the table of samples.

    Args:
        rewards: functions of (question, completion, accepted).
        frame: turns ids into the text that is scored.
        mode: of the prompts.
    """

    def __init__(self, rewards: Sequence[Any], frame: Frame, mode: Mode) -> None:
        self.rewards, self.frame, self.mode = list(rewards), frame, mode
        self.names = [reward_name(reward) for reward in self.rewards]
        self.last: list[Sample] = []

    def functions(self) -> list[Callable[..., list[float]]]:
        """One function for TRL per reward, named after it."""
        return [self._function(index) for index in range(len(self.rewards))]

    def _function(self, index: int) -> Callable[..., list[float]]:
        reward, name = self.rewards[index], self.names[index]

        def score(
            prompts: list[str], completion_ids: list[list[int]], accepted: list[list[str]], **_: Any
        ) -> list[float]:
            if index == 0:
                texts = [self.frame.read(ids, self.mode).tagged for ids in completion_ids]
                self.last = [Sample(question, text, {}) for question, text in zip(prompts, texts, strict=True)]
            scores = [
                float(reward(sample.question, sample.completion, right))
                for sample, right in zip(self.last, accepted, strict=True)
            ]
            for sample, value in zip(self.last, scores, strict=True):
                sample.scores[name] = value
            return scores

        score.__name__ = name
        return score
