"""Rewards of a completion: plain functions of texts, which any engine can call.

A reward is any callable `reward(question, completion, accepted) -> float`; its name is its column in the logs.
GRPO subtracts the mean of a question's group and divides by its standard deviation, so only the sizes of rewards
relative to each other matter: multiplying all of them by ten changes nothing.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from latent_gemma.errors import ConfigError
from latent_gemma.text.answers import Match, answers_match, grade
from latent_gemma.text.equations import share_true
from latent_gemma.text.tags import parse_tagged


class Reward(Protocol):
    """A named function of one completion."""

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        """The reward of a completion to a question with these accepted answers."""
        ...


@dataclass(frozen=True)
class FormatReward:
    """`score` for both pairs of tags, once and in order."""

    score: float = 2.0
    name: str = "format"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score if parse_tagged(completion).shape == "complete" else 0.0


@dataclass(frozen=True)
class CorrectnessReward:
    """`score` for the right answer: what stands in the answer tags, or the whole text, equals it as `match` says."""

    score: float = 25.0
    match: Match = answers_match
    name: str = "correctness"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score if grade(completion, accepted, self.match).strict else 0.0


@dataclass(frozen=True)
class BrokenTagsReward:
    """`score`, a penalty, for a tag without its partner, repeated, nested or out of order."""

    score: float = -15.0
    name: str = "broken_tags"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score if parse_tagged(completion).shape == "broken" else 0.0


@dataclass(frozen=True)
class ShortReasoningReward:
    """`score`, a penalty, for reasoning of fewer than `least_chars` characters: an answer that shows no work."""

    score: float = -2.0
    least_chars: int = 5
    name: str = "short_reasoning"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score if len(parse_tagged(completion).reasoning) < self.least_chars else 0.0


@dataclass(frozen=True)
class StepsReward:
    """`score` times the share of equations in the reasoning that are true; 0 where it holds none."""

    score: float = 1.0
    name: str = "steps"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score * share_true(parse_tagged(completion).reasoning)


def load_reward(path: str) -> Any:
    """Import a user's reward.

    Args:
        path: "module:function"; the module may lie in the current folder.

    Returns:
        The function.

    Raises:
        ConfigError: if there is no such module or function.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"reward {path!r} is not of the form module:function", "write it as in my_rewards:brevity")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # an installed command does not look in the folder it is run from
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise ConfigError(f"reward {path!r}: {error}", "run in the folder that holds the module") from error
    except AttributeError as error:
        raise ConfigError(f"reward {path!r}: {module_name} has no {name!r}", "check the function's name") from error
    if not callable(function):
        raise ConfigError(f"reward {path!r} cannot be called", "name a function(question, completion, accepted)")
    return function


def reward_name(reward: Any) -> str:
    """The column of a reward in the logs."""
    return str(getattr(reward, "name", None) or getattr(reward, "__name__", type(reward).__name__))
