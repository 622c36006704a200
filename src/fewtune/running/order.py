"""The order in which trials start: the longest first where several run at once, each method in turn in a budget.

Owns both. A long trial that starts last keeps one process busy while the others wait.
"""

from __future__ import annotations

import itertools
from collections import Counter
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


def put_methods_in_turn(jobs: Sequence[Job], data_seeds: Sequence[int], fit_seeds: Sequence[int]) -> list[Job]:
    """The jobs, every method once before any twice: draw by draw, fit seed by fit seed, then pattern by pattern."""
    places = {seeds: place for place, seeds in enumerate(itertools.product(data_seeds, fit_seeds))}
    before: Counter[tuple[Cell, int]] = Counter()
    turns = []
    for job in jobs:
        cell, place = describe_axes(job.trial).cell, places[job.trial.data_seed, job.trial.fit_seed]
        turns.append((place, before[cell, place]))
        before[cell, place] += 1
    return [job for _, job in sorted(zip(turns, jobs, strict=True), key=lambda each: each[0])]


def _name_model(job: Job) -> str | None:
    return next(iter(job.weights), None)
