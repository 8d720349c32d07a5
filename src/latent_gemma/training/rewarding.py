"""The rewards of completions, which any engine asks for, and the last of them for the table of samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latent_gemma.model.prompt import Frame, Mode
from latent_gemma.text.rewards import Reward, reward_name
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
    """Scores completions, and remembers the last batch for the table of samples.

    Args:
        rewards: functions of (question, completion, accepted).
        frame: turns questions into ids, and ids into the text that is scored.
        mode: of the prompts.
    """

    def __init__(self, rewards: Sequence[Reward], frame: Frame, mode: Mode) -> None:
        self.rewards, self.frame, self.mode = list(rewards), frame, mode
        self.names = [reward_name(reward) for reward in self.rewards]
        self.last: list[Sample] = []

    def read(self, ids: Sequence[int]) -> str:
        """The text of a completion's ids, as it is scored."""
        return self.frame.read(ids, self.mode).tagged

    def score(self, rows: Iterable[tuple[str, Sequence[str]]], texts: Iterable[str]) -> list[list[float]]:
        """Score a batch, which is then `last`.

        Args:
            rows: of each completion the question and the answers that count as right.
            texts: the completions, see `read`.

        Returns:
            Of each reward, in their order, a score for each completion.
        """
        self.last = [
            Sample(question, text, {
                name: float(reward(question, text, accepted))
                for name, reward in zip(self.names, self.rewards, strict=True)
            })
            for (question, accepted), text in zip(rows, texts, strict=True)
        ]  # fmt: skip
        return [[sample.scores[name] for sample in self.last] for name in self.names]
