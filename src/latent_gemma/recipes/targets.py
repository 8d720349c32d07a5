"""What models are evaluated on, and what was found so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from latent_gemma.choices import AskedKind
from latent_gemma.data.example import Example
from latent_gemma.data.kinds import answer_kind
from latent_gemma.data.load import load_examples
from latent_gemma.data.task_list import AnswerKind, find_task, load_task
from latent_gemma.errors import ConfigError, DataError
from latent_gemma.evaluation.engine import Measured
from latent_gemma.evaluation.log import ItemLog
from latent_gemma.evaluation.results import ThoughtTrace
from latent_gemma.options.source import DataSettings
from latent_gemma.recipes.stage import digest
from latent_gemma.text.answers import Match, answers_match


@dataclass
class Target:
    """A task or a data set.

    Args:
        name: as the user named it.
        source: where the questions come from.
        folder: of its report.
        examples: the questions.
        kind: of its answers.
        match: how answers of this kind are compared.
        log: its finished items.
        found: what was measured.
        traces: items with their thoughts.
        main_only: each model is measured under its main setting alone.
    """

    name: str
    source: str
    folder: Path
    examples: list[Example]
    kind: AnswerKind
    match: Match
    log: ItemLog = field(default_factory=ItemLog)
    found: list[Measured] = field(default_factory=list)
    traces: list[ThoughtTrace] = field(default_factory=list)
    main_only: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over the questions and their answers."""
        return digest(self.examples)


def match_of(kind: AnswerKind, equal: Match) -> Match:
    """How answers of a kind are compared, `equal` comparing mathematical expressions."""
    return equal if kind == "math" else answers_match


def read_targets(
    tasks: str, data: DataSettings, kind: AskedKind, seed: int, skip_bad: bool, out: Path, equal: Match,
    say: Callable[[str], None],
) -> list[Target]:  # fmt: skip
    """Read everything that models are evaluated on, before the first one is loaded.

    Args:
        tasks: "name,name=file", or empty.
        data: instead of tasks.
        kind: of the answers; "auto" takes the task's or the data set's.
        seed: of generated data and of a task's sample.
        skip_bad: leave malformed rows, and tasks that cannot be read at all, out.
        out: the run folder.
        equal: how mathematical answers are compared.
        say: told of everything that is left out.

    Returns:
        At least one target.

    Raises:
        ConfigError: for no data or both kinds, or a task named twice.
        DataError: if data cannot be read, without `skip_bad`; if nothing can be.
    """
    if bool(tasks) == bool(data.data):
        raise ConfigError("an evaluation is on --tasks or on --data", "give one of them")
    if data.data:
        return [_read_data(data, kind, seed, skip_bad, out, equal, say)]
    parts = [part.strip() for part in tasks.split(",") if part.strip()]
    names = [part.partition("=")[0] for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--tasks names {twice} twice", "evaluate its second file in a run of its own")
    targets, error = [], None
    for part in parts:
        try:
            targets.append(_read_task(part, data.limit, kind, seed, skip_bad, out, equal, say))
        except DataError as failed:
            if not skip_bad:
                raise
            say(f"left out: task {part}: {failed}")
            error = failed
    if error is not None and not targets:
        raise error
    return targets


def _read_data(
    data: DataSettings, kind: AskedKind, seed: int, skip_bad: bool, out: Path, equal: Match, say: Callable[[str], None]
) -> Target:
    spec, skipped = data.spec("test", seed), list[DataError]()
    whole_file = not (spec.is_generated or spec.is_hub_name or spec.holdout)
    examples = load_examples(spec, skipped.append if skip_bad else None)
    source = f"{spec.source} ({'whole file' if whole_file else 'held-out part'})"
    found = answer_kind(spec, examples) if kind == "auto" else kind
    return Target(spec.source, _told(source, skipped, say), out, examples, found, match_of(found, equal))


def read_further(
    ood: str, data: DataSettings, kind: AskedKind, seed: int, skip_bad: bool, out: Path, equal: Match,
    say: Callable[[str], None],
) -> Target:  # fmt: skip
    """Read questions of another kind, on which main settings are measured too.

    Args:
        ood: the data, named as in `data`.
        data: of the other questions; as many are taken.
        kind: see `read_targets`.
        seed: see `read_targets`.
        skip_bad: see `read_targets`.
        out: the run folder; their items lie in the folder "ood" in it.
        equal: see `read_targets`.
        say: see `read_targets`.

    Returns:
        The target.

    Raises:
        DataError: if the data cannot be read.
    """
    target = _read_data(replace(data, data=ood, holdout=0), kind, seed, skip_bad, out / "ood", equal, say)
    return replace(target, main_only=True)


def _read_task(
    part: str, limit: int | None, kind: AskedKind, seed: int, skip_bad: bool, out: Path, equal: Match,
    say: Callable[[str], None],
) -> Target:  # fmt: skip
    name, _, path = part.partition("=")
    task, skipped = find_task(name), list[DataError]()
    examples = load_task(name, Path(path) if path else None, limit, seed, skipped.append if skip_bad else None)
    found = task.answer_kind if kind == "auto" else kind
    told = _told(path or task.source, skipped, say)
    return Target(name, told, out / name, examples, found, match_of(found, equal))


def _told(source: str, skipped: Sequence[DataError], say: Callable[[str], None]) -> str:
    for error in skipped:
        say(f"left out: {error}")
    return f"{source}, {len(skipped)} malformed rows left out" if skipped else source
