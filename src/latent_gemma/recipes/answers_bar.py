"""Progress of an evaluation over all of its models, tasks and settings."""

import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from latent_gemma.launch import is_main_process
from latent_gemma.recipes.contestants import Contestant
from latent_gemma.recipes.targets import Target


class AnswersBar:
    """One line: what is measured, answers generated of all there will be, time left. A vote counts as its traces.

    Args:
        contestants: the models.
        targets: what they are measured on; what their logs hold counts as done.
    """

    def __init__(self, contestants: Sequence[Contestant], targets: Sequence[Target]) -> None:
        total = done = 0
        for one in contestants:
            for target in targets:
                for point in one.points[:1] if target.main_only else one.points:
                    finished = len(target.log.finished(point.setting(one.label, one.own_p, one.mode)))
                    total += len(target.examples) * max(1, point.votes)
                    done += finished * max(1, point.votes)
        self._total, self._done = total, done
        self._bar: tqdm | None = None

    def __enter__(self) -> "AnswersBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, target: str, setting: str) -> None:
        """Tell what comes next; the line appears with the first one, so that bad input is told without it."""
        if self._bar is None:
            # In a file or a pipe every refresh is another line: a few are enough.
            often_s, bar = (0.2, " {bar}") if sys.stderr.isatty() else (30.0, "")
            self._bar = tqdm(
                total=self._total,
                initial=self._done,
                bar_format="{percentage:3.0f}% {n_fmt}/{total_fmt} answers, {remaining} left: {desc}" + bar,
                dynamic_ncols=True,
                mininterval=often_s,
                disable=not is_main_process(),
            )
        self._bar.set_description_str(f"{target}: {setting}", refresh=False)

    def update(self, answers: int) -> None:
        """Count answers that have just been generated."""
        if self._bar is not None:
            self._bar.update(answers)
