"""Rewards of a completion: plain functions of texts, which any engine can call.

A reward is any callable `reward(question, completion, accepted) -> float`; its name is its column in the logs.
GRPO subtracts the mean of a question's group and divides by its standard deviation, so only the sizes of rewards
relative to each other matter: multiplying all of them by ten changes nothing.
"""

import importlib
import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from latent_gemma.errors import ConfigError
from latent_gemma.text.answers import Match, answers_match, grade
from latent_gemma.text.equations import share_true
from latent_gemma.text.tags import parse_tagged

#: Of the pairs of neighbouring words in honest work, this share or more are different.
LEAST_VARIETY = 0.3
#: A number, a word, one Japanese character, or one sign; full stops and commas are the same everywhere.
_PIECE = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+|[^\s.,!?:;、。]")


class Reward(Protocol):
    """A named function of one completion."""

    def __call__(self, question: str, completion: str, accepted: Sequence[str], /) -> float:
        """The reward of a completion to a question with these accepted answers."""
        ...


@dataclass(frozen=True)
class FormatReward:
    """`score` for both pairs of tags, once and in order, and nothing outside of them."""

    score: float = 2.0
    name: str = "format"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        parsed = parse_tagged(completion)
        return self.score if parsed.shape == "complete" and parsed.alone else 0.0


@dataclass(frozen=True)
class CorrectnessReward:
    """`score` for the right answer in the answer tags, of which a part is paid where it stands outside of them.

    Args:
        score: for what stands in the answer tags, if `match` accepts it: a number with its unit, in bold or in a short
            sentence as well.
        match: whether an answer equals an accepted one.
        name: column in the logs.
        untagged_share: of the score, for an answer in another mark (`#### ..`, `\\boxed{..}`) or as the whole text; 1
            where no tags are asked for.
    """

    score: float = 25.0
    match: Match = answers_match
    name: str = "correctness"
    untagged_share: float = 0.4

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        if not grade(completion, accepted, self.match).strict:
            return 0.0
        return self.score if parse_tagged(completion).answer else self.score * self.untagged_share


@dataclass(frozen=True)
class BrokenTagsReward:
    """`score`, a penalty, for a tag without its partner, repeated, nested or out of order."""

    score: float = -15.0
    name: str = "broken_tags"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score if parse_tagged(completion).shape == "broken" else 0.0


@dataclass(frozen=True)
class ShortReasoningReward:
    """`score`, a penalty, for reasoning that shows no work.

    Args:
        score: of fewer than `least_chars` characters, without words or numbers, of one word or one phrase over and
            over, or copied from the question.
        least_chars: see `score`.
        name: column in the logs.
    """

    score: float = -2.0
    least_chars: int = 5
    name: str = "short_reasoning"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        reasoning = parse_tagged(completion).reasoning
        return self.score if len(reasoning) < self.least_chars or not shows_work(reasoning, question) else 0.0


def shows_work(reasoning: str, question: str) -> bool:
    """Whether a text is more than dots, one phrase over and over, or the question.

    Args:
        reasoning: the text.
        question: the question that it reasons about.

    Returns:
        True if besides the question as a whole it has two different words or numbers (of Japanese each character
        counts), something in it is not in the question, a word, a number or a sign, and its pairs of neighbours are
        not the same few ones over and over.
    """
    pieces, asked = _PIECE.findall(reasoning.casefold()), _PIECE.findall(question.casefold())
    pairs = list(itertools.pairwise(pieces))
    if len(set(pairs)) < LEAST_VARIETY * len(pairs) or set(pieces) <= set(asked):
        return False
    # The whole question and one word more is a copy too.
    own = f" {' '.join(pieces)} ".replace(f" {' '.join(asked)} ", " ") if asked else " ".join(pieces)
    return len({piece for piece in own.split() if piece[0].isalnum()}) > 1


@dataclass(frozen=True)
class StepsReward:
    """`score` times the share of equations in the reasoning that are true; 0 where it holds none."""

    score: float = 1.0
    name: str = "steps"

    def __call__(self, question: str, completion: str, accepted: Sequence[str]) -> float:
        return self.score * share_true(parse_tagged(completion).reasoning)


def load_reward(path: str) -> Reward:
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
    return cast(Reward, function)


def reward_name(reward: Reward) -> str:
    """The column of a reward in the logs."""
    return str(getattr(reward, "name", None) or getattr(reward, "__name__", type(reward).__name__))
