"""How long what is left of a study may take, guessed from the trials that finished.

Owns the guess, which what runs a study and what watches one both show. Needs records alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from fewtune.records import Cell, Record


def guess_seconds_left(finished: Sequence[Record], waiting: Iterable[Cell], workers: int) -> float | None:
    """Guess the seconds that waiting trials take on as many workers; None before any trial was timed.

    A trial is taken to last as those of its cell did; before there is one, as its variant did with the nearest number
    of shots, on its task and model rather than on others, with its fit as much longer as it has more shots. A variant
    that has not run yet is taken as all others are.
    """
    timed = [record for record in finished if record.phase_seconds]
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
