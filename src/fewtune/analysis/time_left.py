"""Estimates the seconds that a study's remaining trials take, from those that have finished.

Used by `run`, `watch`, forecasts and budgets. Needs records only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from fewtune.records import Cell, Record


def guess_seconds_left(
    finished: Sequence[Record], waiting: Iterable[Cell], workers: int, forecast: Sequence[Record] = ()
) -> float | None:
    """Estimate the seconds that waiting trials take on that many workers; None before any trial was timed.

    A trial takes the mean of the timed trials of its variant, on its own task and model if there are any, with the
    nearest number of shots; the fit is scaled by the number of shots. A variant without timed trials takes what was
    forecast of it, or the mean of all others.
    """
    timed = [record for record in finished if record.phase_seconds]
    ran = {record.trial.variant for record in timed}
    timed += [record for record in forecast if record.phase_seconds and record.trial.variant not in ran]
    if not timed:
        return None
    return sum(count * _guess_trial(timed, cell) for cell, count in Counter(waiting).items()) / workers


def _guess_trial(timed: Sequence[Record], cell: Cell) -> float:
    of_variant = [record for record in timed if record.trial.variant == cell.variant]
    at_home = [r for r in of_variant if (r.trial.task, r.trial.model) == (cell.task, cell.model)]
    alike = at_home or of_variant or timed
    nearest = min({record.trial.shots for record in alike}, key=lambda shots: abs(shots - cell.shots))
    return fmean(
        sum(record.phase_seconds.values()) + record.phase_seconds.get("fit", 0.0) * (cell.shots / nearest - 1)
        for record in alike
        if record.trial.shots == nearest
    )
