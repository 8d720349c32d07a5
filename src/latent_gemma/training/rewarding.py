"""The thin adapter between rewards, which are functions of texts, and TRL, which asks for them by batches of ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.text.rewards import reward_name
from latent_gemma.training.settings import RewardSettings

#: `RewardSettings` stands where options are read without torch, and is imported from here as before.
__all__ = ["RewardBook", "RewardSettings", "Sample"]


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
