"""The time of a study: shared out among the runs that are left, and how long these will take."""

import time
from collections.abc import Hashable, Mapping

from latent_gemma.text.columns import spoken


class StudyClock:
    """Shares the hours of a session out, and tells how far a study is.

    Args:
        steps: run -> optimiser steps that it has still to be trained for, in the order of the study; 0 of one that is
            trained already.
        started_s: `time.monotonic()` when the session began.
        max_hours: length of the session; None for no end.
    """

    def __init__(self, steps: Mapping[Hashable, int], started_s: float, max_hours: float | None) -> None:
        self._steps, self._total = dict(steps), len(steps)
        self._deadline_s = None if max_hours is None else started_s + 3600 * max_hours
        self._trained, self._seconds = 0, 0.0
        self._began_s, self._now = started_s, 0

    def share_hours(self) -> float | None:
        """Hours that the next run may take: what is left, in equal parts for the runs that are not trained yet.

        Returns:
            The hours, None where there is no end; 0 where none is left, but never for the first run of a session: each
            session gets on.
        """
        if self._deadline_s is None:
            return None
        waiting = sum(steps > 0 for steps in self._steps.values())
        left_s = self._deadline_s - time.monotonic()
        return max(left_s, 0.0 if self._trained else 1e-6) / 3600 / max(1, waiting)

    def begins(self) -> None:
        """The next run begins."""
        self._began_s, self._now = time.monotonic(), 0

    def trained(self, steps: int) -> None:
        """The run has been trained for so many optimiser steps, to its end or not."""
        self._now = steps

    def ends(self, run: Hashable) -> None:
        """The run is trained and measured, or its time was up."""
        del self._steps[run]
        if self._now:  # measuring alone says nothing about the others
            self._trained += self._now
            self._seconds += time.monotonic() - self._began_s

    @property
    def place(self) -> str:
        """Where the study is: "3/8", and how long the rest will take once a run has shown it."""
        done = f"{self._total - len(self._steps) + 1}/{self._total}"
        if not self._trained:
            return done
        left_s = self._seconds / self._trained * sum(self._steps.values())
        return f"{done}, {spoken(left_s)} left"
