"""The models of an evaluation before they are loaded: who they are and what will be measured of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latent_gemma.data.example import Example
from latent_gemma.errors import DataError
from latent_gemma.evaluation.planning import EvalSettings, Point, plan, too_long
from latent_gemma.model.config import LatentConfig, WordsFormat
from latent_gemma.model.loading import read_config, resolve_model
from latent_gemma.model.prompt import Mode
from latent_gemma.recipes.stage import model_hash
from latent_gemma.recipes.targets import Target

#: What besides the weights decides over answers: configuration, tokenizer, chat template.
_SMALL_FILES = ("*.json", "*.jinja", "*.model")


@dataclass(frozen=True)
class Contestant:
    """A model, and what will be measured of it.

    Args:
        name: as the user typed it.
        label: as tables show it.
        mode: it is asked in.
        own_p: its share of the token embedding.
        points: of the grid.
    """

    name: str
    label: str
    mode: Mode
    own_p: float
    points: list[Point]


def line_up(
    models: Sequence[str],
    mode: Literal["auto", "latent", "words"],
    words_format: WordsFormat | None,
    settings: EvalSettings,
) -> list[Contestant]:
    """Find out what will be measured, without loading a model.

    Args:
        models: as the user typed them.
        mode: "auto" writes words where they stand between tags, and thinks otherwise.
        words_format: None for each model's own.
        settings: what is measured.

    Returns:
        One contestant a model.

    Raises:
        ModelError: if one is a path and no model lies there.
    """
    contestants = []
    for name, label in zip(models, _labels(models), strict=True):
        latent = getattr(read_config(name), "latent", None) or LatentConfig()
        tags = (words_format or latent.words_format) == "tags"
        own: Mode = mode if mode != "auto" else "words" if tags else "latent"
        label = label or ("words" if own == "words" else "latent" if latent.num_thoughts else "no reasoning")
        points = plan(latent.num_thoughts, latent.p, own, settings)
        contestants.append(Contestant(name, label, own, latent.p, points))
    return contestants


def _labels(models: Sequence[str]) -> list[str | None]:
    """Names that tell several models apart; of a single one what it does tells more."""
    if len(models) == 1:
        return [None]
    names = [Path(model).name for model in models]
    return [name if names.count(name) == 1 else model for name, model in zip(names, models, strict=True)]


def identity(name: str) -> dict[str, str]:
    """What tells one model from another, wherever it lies.

    Args:
        name: as the user typed it.

    Returns:
        Its name, and digests of its weights and of its configuration and tokenizer; of a hub name its revision.
    """
    digest = model_hash(name)
    if not digest:
        return {"model": name, "revision of model": str(getattr(read_config(name), "_commit_hash", None))}
    known = {"model": Path(name).name, "weights of model": digest}
    folder, gguf = resolve_model(name)
    if gguf:  # holds everything
        return known
    small = hashlib.sha256()
    for path in sorted({path for pattern in _SMALL_FILES for path in Path(folder).glob(pattern)}):
        small.update(path.name.encode() + path.read_bytes())
    return known | {"configuration of model": small.hexdigest()}


def fitting(
    one: Contestant, target: Target, model: Any, tokenizer: Any, skip_bad: bool, settings: EvalSettings,
    say: Callable[[str], None],
) -> list[Example]:  # fmt: skip
    """The questions that a model can take.

    Args:
        one: the model.
        target: the questions.
        model: it, loaded.
        tokenizer: its tokenizer.
        skip_bad: leave longer ones out.
        settings: what is measured.
        say: told of each that is left out.

    Returns:
        The questions, at least one.

    Raises:
        DataError: for a longer one without `skip_bad`, or if all are longer.
    """
    k = max(point.k for point in one.points)
    errors = too_long(model, tokenizer, target.examples, one.mode, k, settings.answer_language)
    for number, error in errors.items():
        problem = f"{target.name}, question {number + 1}: {error}"
        if not skip_bad or len(errors) == len(target.examples):
            raise DataError(problem, "shorten it, think fewer steps, or leave it out with --skip-bad")
        say(f"left out of {one.label}: {problem}")
    return [example for number, example in enumerate(target.examples) if number not in errors]
