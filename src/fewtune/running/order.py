"""Orders a study's trials: longest first where several run at once, methods in turn within a time budget.

Owns both. A long trial that starts last keeps one process busy while the others wait.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence

from fewtune.analysis.time_left import TimedTrials
from fewtune.records import Cell
from fewtune.running.job import Job
from fewtune.running.trial_metadata import describe_axes


def take_longest_first(jobs: Sequence[Job], timed: TimedTrials, forecast: TimedTrials) -> Iterator[Job]:
    """Each job, asked for when it could start; a model's together as they were, those that take longest first.

    `timed` grows as trials end: of what nothing is known yet, nor was forecast, one trial starts before all others, so
    that the rest of its kind finds its place. Equal ones are in order, those that need no model last.
    """
    waiting: dict[str | None, dict[Cell, deque[Job]]] = {}
    for job in jobs:
        cells = waiting.setdefault(_name_model(job), {})
        cells.setdefault(describe_axes(job.trial).cell, deque()).append(job)
    without = waiting.pop(None, {})
    for cells in [*waiting.values(), without]:
        begun: set[str] = set()
        order: list[Cell] = []
        known = None
        while cells:
            if known != (len(timed), len(begun), len(cells)):
                known = len(timed), len(begun), len(cells)
                order = _rank(cells, timed, forecast, begun)
            cell = order[0]
            begun.add(cell.variant)
            job = cells[cell].popleft()
            if not cells[cell]:
                del cells[cell]
            yield job


def _rank(cells: Iterable[Cell], timed: TimedTrials, forecast: TimedTrials, begun: Collection[str]) -> list[Cell]:
    """The cells in the order in which their next trials start."""
    told = timed.variants | forecast.variants | set(begun)
    seconds = timed.guess_each(cells, forecast)
    return sorted(cells, key=lambda cell: (cell.variant in told, -seconds.get(cell, 0.0)))


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
