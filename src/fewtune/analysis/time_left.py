"""Estimates the seconds that a study's remaining trials take, from those that have finished.

Used by `run`, `watch`, forecasts and budgets. Needs records only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fewtune.records import NEVER_RUN, Cell, Record


def guess_seconds_left(finished: Iterable[Record], waiting: Iterable[Cell], workers: int) -> float | None:
    """Estimate the seconds that waiting trials take on that many workers; None before any trial was timed.

    A trial takes the mean of the timed trials of its variant, on its own task and model if there are any, with the
    nearest number of shots; fit and tuning are scaled by the number of shots. A variant without timed trials takes the
    mean of all others that use a model; one without a model takes no time. Cells of which a trial was skipped are
    skipped whole.
    """
    known = list(finished)
    skipped = {record.trial.cell for record in known if record.status == "skipped"}
    counts = Counter(cell for cell in waiting if cell not in skipped)
    return TimedTrials(known).guess(counts, workers, TimedTrials())


@dataclass
class _Spent:
    """What the timed trials of a cell took together."""

    trials: int = 0
    seconds: float = 0.0
    fit: float = 0.0


class TimedTrials:
    """What trials took, added up by cell as they end: thousands of them are not looked through again for each."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._spent: dict[Cell, _Spent] = {}
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        """How many cells were timed."""
        return len(self._spent)

    @property
    def variants(self) -> set[str]:
        """Of which a trial was timed."""
        return {cell.variant for cell in self._spent}

    def add(self, record: Record) -> None:
        """Count a trial, if it ran and was timed."""
        if record.phase_seconds and record.status not in NEVER_RUN:
            spent = self._spent.setdefault(record.trial.cell, _Spent())
            spent.trials += 1
            spent.seconds += sum(record.phase_seconds.values())
            spent.fit += record.phase_seconds.get("fit", 0.0) + record.phase_seconds.get("tune", 0.0)

    def copy(self) -> TimedTrials:
        """The same sums, to be added to apart."""
        made = TimedTrials()
        made._spent = {cell: replace(spent) for cell, spent in self._spent.items()}
        return made

    def guess_each(self, cells: Iterable[Cell], forecast: TimedTrials) -> dict[Cell, float]:
        """The seconds of one trial of each cell; of none, where no trial was timed or forecast."""
        timed = self._join(forecast)
        return {cell: _guess_trial(timed, cell) for cell in cells} if timed else {}

    def guess(self, waiting: Mapping[Cell, int], workers: int, forecast: TimedTrials) -> float | None:
        """`guess_seconds_left` of so many waiting trials of each cell."""
        timed = self._join(forecast)
        if not timed:
            return None
        return sum(count * _guess_trial(timed, cell) for cell, count in waiting.items()) / workers

    def _join(self, forecast: TimedTrials) -> dict[Cell, _Spent]:
        """What was timed, and what was forecast of a variant on a task and model where none of its trials was."""
        ran = {(cell.task, cell.model, cell.variant) for cell in self._spent}
        foretold = forecast._spent.items()
        return {c: spent for c, spent in foretold if (c.task, c.model, c.variant) not in ran} | self._spent


def _guess_trial(timed: Mapping[Cell, _Spent], cell: Cell) -> float:
    of_variant = [other for other in timed if other.variant == cell.variant]
    at_home = [other for other in of_variant if (other.task, other.model) == (cell.task, cell.model)]
    if cell.model is None and not of_variant:
        return 0.0
    alike = at_home or of_variant or [other for other in timed if other.model is not None] or list(timed)
    nearest = min({other.shots for other in alike}, key=lambda shots: abs(shots - cell.shots))
    spent = [timed[other] for other in alike if other.shots == nearest]
    seconds = sum(each.seconds + each.fit * (cell.shots / nearest - 1) for each in spent)
    return seconds / sum(each.trials for each in spent)
