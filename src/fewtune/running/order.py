"""The order in which a study's trials start where several run at once: the longest first.

Owns it. A long trial that starts last keeps one process busy while the others wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewtune.analysis.time_left import TimedTrials
from fewtune.records import Cell
from fewtune.running.circumstances import describe_axes
from fewtune.running.job import Job


def put_longest_first(jobs: Sequence[Job], timed: TimedTrials) -> list[Job]:
    """The jobs, a model's together as they were, those that are thought to take longest first; equal ones in order.

    Those that need no model are last.
    """
    models = [*dict.fromkeys(name for job in jobs if (name := _name_model(job)) is not None), None]
    seconds: dict[Cell, float] = {}
    for job in jobs:
        cell = describe_axes(job.trial).cell
        if cell not in seconds:
            seconds[cell] = timed.guess({cell: 1}, 1, TimedTrials()) or 0.0
    return sorted(jobs, key=lambda job: (models.index(_name_model(job)), -seconds[describe_axes(job.trial).cell]))


def _name_model(job: Job) -> str | None:
    return next(iter(job.weights), None)
