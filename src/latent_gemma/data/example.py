"""The one record every data set is read into."""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """A question with its reasoning steps and its answer.

    Args:
        question: the question as a person would ask it, no prompt template around it.
        steps: reasoning steps in order, one string each; empty where the data set has none.
        answer: the final answer alone, no units or markers the data set does not count as part of it.
        language: of the question: "en" or "ja", told by its script, or what a data set of one language says ("de").
        accepted: further answers that count as correct (aliases, spellings), besides `answer`.
    """

    question: str
    steps: tuple[str, ...]
    answer: str
    language: str = "en"
    accepted: tuple[str, ...] = field(default=())

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers that count as correct, `answer` first."""
        return (self.answer, *self.accepted)

    def told_anew(self, rng: random.Random) -> "Example":
        """The example as another pass over the data tells it: itself, where its kind does not say otherwise."""
        return self
