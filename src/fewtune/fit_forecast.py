"""How long the folds and the last fit after a race take, by what its trials took.

Owns the estimate. A trial of the race is fitted on few rows; steps, and rows to answer, grow with the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from fewtune.processor import name_processor
from fewtune.records import Record


def foresee_seconds(trials: Sequence[Record], settings: Mapping[str, Any], rows: int, folds: int) -> float | None:
    """Seconds of fitting a method on all rows, and of each fold's fit on the others and its answers; None: not known.

    `trials` are the method's of the race, `settings` those that the last fit names.
    """
    here = name_processor()  # what another machine took says nothing of this one
    ran = [record for record in trials if record.status == "done" and record.environment.get("processor") == here]
    costs = [(record, record.cost) for record in ran if record.cost is not None]
    fits = [
        cost.fit_seconds * _find_growth(record, settings, rows)
        for record, cost in costs
        if cost.fit_seconds is not None
    ]
    answers = [
        cost.predict_seconds / cost.predict_rows for _, cost in costs if cost.predict_seconds and cost.predict_rows
    ]
    if not fits or not answers:
        return None
    share_fitted = folds - 1 if folds else 0  # so many fits' worth of rows, each fold's without its own
    return median(fits) * (1 + share_fitted) + (median(answers) * rows if folds else 0.0)


def _find_growth(record: Record, settings: Mapping[str, Any], rows: int) -> float:
    """How many times as long as a trial the last fit takes: by the rows that all epochs go through.

    Fits of so many steps, or of so many pairs of rows, take as long.
    """
    had = record.trial.settings
    if not had.get("epochs") or had.get("steps") is not None or "most_pairs" in had:
        return 1.0
    growth: float = rows * settings.get("epochs", had["epochs"]) / (record.trial.shots * had["epochs"])
    return growth
