"""The models of an evaluation before they are loaded: who they are and what will be measured of them."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from latent_gemma.choices import AskedMode, Mode, NumThoughts, WordsFormat
from latent_gemma.data.example import Example
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.points import EvalSettings, Point, ordered_thoughts, plan, too_long
from latent_gemma.model.gemma import LatentReasoningGemmaForCausalLM
from latent_gemma.model.loading import latent_of, read_config, resolve_model
from latent_gemma.model.prompt import own_mode
from latent_gemma.recipes.stage import model_hash
from latent_gemma.recipes.targets import Target

#: What each mode is called where a single model has no other name.
_LABELS: dict[Mode, str] = {"latent": "latent", "words": "words", "none": "no reasoning"}
#: What besides the weights decides over answers: configuration, tokenizer, chat template.
_SMALL_FILES = ("*.json", "*.jinja", "*.model")


@dataclass(frozen=True)
class Contestant:
    """A model, and what will be measured of it.

    Args:
        name: as the user typed it, without a mode behind it.
        label: as tables show it.
        mode: it is asked in.
        k: its number of latent steps, "auto" where it learnt it; of a model that was trained without any, the largest
            asked for.
        own_p: its share of the token embedding.
        points: of the grid.
    """

    name: str
    label: str
    mode: Mode
    k: NumThoughts
    own_p: float
    points: list[Point]


def split_mode(typed: str) -> tuple[str, Mode | None]:
    """Take the mode off a model.

    Args:
        typed: as the user typed it: runs/words, or runs/words:words to say how this one is asked.

    Returns:
        The model and its mode, None where none is said. What exists under the whole name, and a colon that belongs to
        a path (C:\\models), are no mode.

    Raises:
        ConfigError: for an unknown mode.
    """
    name, colon, mode = typed.rpartition(":")
    if not colon or not name or Path(typed).expanduser().exists() or re.search(r"[/\\]", mode):
        return typed, None
    if mode not in get_args(Mode):
        if len(name) == 1:  # a drive
            return typed, None
        raise ConfigError(f"{typed}: there is no mode {mode!r}", f"choose from {', '.join(get_args(Mode))}")
    return name, cast(Mode, mode)


def line_up(
    models: Sequence[str], mode: AskedMode, words_format: WordsFormat | None, settings: EvalSettings
) -> list[Contestant]:
    """Find out what will be measured, without loading a model.

    Args:
        models: as the user typed them, each with a mode of its own behind a colon or not.
        mode: of those without.
        words_format: of models that were never trained here; None for each model's own.
        settings: what is measured.

    Returns:
        One contestant a model. Its label is the name of its folder, with the mode behind it where that is not what it
        was trained for; a single model is called by what it does.

    Raises:
        ConfigError: for an unknown mode, or a model that is named twice in one mode.
        ModelError: if one is a path and no model lies there.
    """
    split = [split_mode(model) for model in models]
    names = [Path(name).name for name in dict.fromkeys(name for name, _ in split)]
    contestants: list[Contestant] = []
    for name, said in split:
        latent = latent_of(name)
        if words_format and latent.trained_for == "unknown":
            latent = replace(latent, words_format=words_format)
        own = own_mode(latent)
        asked = said or (own if mode == "auto" else mode)
        label = Path(name).name if names.count(Path(name).name) == 1 else name
        label = _LABELS[asked] if len(models) == 1 else label if asked == own else f"{label}:{asked}"
        if any(one.label == label for one in contestants):
            raise ConfigError(f"{name} is named twice", "say how each is asked, as in runs/a:words runs/a:none")
        k = latent.own_thoughts or max((k for k in settings.ks if k != "auto"), default=0)
        points = plan(k, latent.p, asked, settings, ordered_thoughts(latent, k))
        contestants.append(Contestant(name, label, asked, k, latent.p, points))
    return contestants


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
    one: Contestant, target: Target, model: LatentReasoningGemmaForCausalLM,
    tokenizer: Any, skip_bad: bool, settings: EvalSettings,
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
    most = model.config.latent.most_thoughts
    k = max(most if point.k == "auto" else point.k for point in one.points)
    errors = too_long(model, tokenizer, target.examples, one.mode, k, settings.answer_language)
    for number, error in errors.items():
        problem = f"{target.name}, question {number + 1}: {error}"
        if not skip_bad or len(errors) == len(target.examples):
            raise DataError(problem, "shorten it, think fewer steps, or leave it out with --skip-bad")
        say(f"left out of {one.label}: {problem}")
    return [example for number, example in enumerate(target.examples) if number not in errors]
