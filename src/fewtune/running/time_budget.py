"""The time budget of a study: which trials still fit, and which were left out.

Owns both. Does not know what a trial does; how long one takes is guessed from those that ran (`analysis.time_left`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from fewtune.analysis.time_left import TimedTrials
from fewtune.running.job import Job
from fewtune.running.trial_metadata import describe_axes

MOST_KEPT_SECONDS = 15.0
"""Seconds of a budget kept for analysing and reporting; a twentieth of it where that is less."""


class TimeBudget:
    """A study's time, from `began` on `clock` (seconds)."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds - min(MOST_KEPT_SECONDS, seconds / 20)
        self.left_out: list[Job] = []
        """Trials that would have ended too late."""

    @property
    def is_spent(self) -> bool:
        """Whether nothing may run any more."""
        return self._clock() >= self._deadline

    def ration(self, jobs: Iterable[Job], timed: TimedTrials, forecast: TimedTrials) -> Iterator[Job]:
        """Each job that fits, asked for when it could start; `timed` grows as trials end.

        `forecast` is what trials were forecast to take.

        A trial of which nothing is known yet is let start: it is ended with the budget.
        """
        for job in jobs:
            guessed = timed.guess({describe_axes(job.trial).cell: 1}, 1, forecast)
            wanted = (guessed or 0.0) if job.skip_reason is None else 0.0  # one that is skipped takes no time
            if self._clock() + wanted >= self._deadline:
                self.left_out.append(job)
            else:
                yield job
