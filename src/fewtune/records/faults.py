"""Finds records and predictions whose fields are all there and whose values are impossible.

Owns what a record's figures and a table's rows and scores can be, and how a fault is worded. What was edited by hand is
found by it before anything is computed from it. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewtune.errors import RecordError
from fewtune.records.notes import Count, Seconds

if TYPE_CHECKING:
    import polars as pl

    from fewtune.records.schema import Record

DEEPEST = 40
"""Lists and objects within one another that a record may hold."""
MOST_SHOWN = 120
NEAR = 1e-9

_RANGES = {"accuracy": (0.0, 1.0), "macro_f1": (0.0, 1.0), "mcc": (-1.0, 1.0)}
"""Those of `metrics.counts`, which brings NumPy: reading records does without."""

TableFault = Literal["scores", "rows"]
TABLE_FAULTS: dict[TableFault, str] = {
    "scores": "scores that are no numbers",
    "rows": "a row of a test set that stands in them twice",
}
"""What may be wrong with predictions whose columns are all there, in words."""


class PredictionsError(RecordError):
    """A trial's predictions of which no figure can be made: whose they are, and why."""

    def __init__(self, where: str, trial_id: str, fault: TableFault, remedy: str) -> None:
        self.trial_id, self.fault = trial_id, fault
        super().__init__(f"{where}: no predictions that fewtune writes: {TABLE_FAULTS[fault]}. {remedy}.")


class _Typed(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Environment(_Typed):
    workers: Annotated[int, Field(ge=1)] = 1


class _Baselines(_Typed):
    chance: Annotated[float, Field(gt=0, le=1)] | None = None
    majority: Annotated[float, Field(ge=0, le=1)] | None = None
    rows: Seconds = 0.0
    labels: Annotated[float, Field(gt=0)] | None = None


class _Cost(BaseModel):
    model_config = ConfigDict(extra="allow", from_attributes=True)

    fit_seconds: Seconds | None
    predict_seconds: Seconds | None
    predict_rows: Count | None
    shared_seconds: Seconds | None
    load_seconds: Seconds | None
    peak_memory_bytes: Count | None
    resident_memory_bytes: Count | None
    trainable_parameters: Count | None
    total_parameters: Count | None
    fit_tokens: Count | None
    predict_tokens: Count | None


class _Figures(BaseModel):
    """What a record counts and measures."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)

    environment: _Environment
    baselines: dict[str, _Baselines]
    cost: _Cost | None
    phase_seconds: dict[str, Seconds]
    primary_metric: Literal["accuracy", "mcc", "macro_f1"]


def find_fault(record: Record) -> str | None:
    """Format the first thing in a record that cannot be; None where it is sound."""
    try:
        _Figures.model_validate(record)
    except ValidationError as error:
        return format_error(error)
    if not 1 <= record.trial.shots < 2**53:
        return f"trial.shots: {record.trial.shots!r:.40} is no number of rows"
    if record.status != "done":
        return None
    whole: list[tuple[str, Mapping[str, Mapping[str, float]]]] = [("metrics", record.metrics)]
    whole += [(f"checkpoints.{number}.metrics", each.metrics) for number, each in enumerate(record.checkpoints)]
    for where, scores in whole:
        lost = sorted(record.metrics.keys() - scores.keys())
        if lost:
            return f"{where}: no scores of {lost[0]!r:.80}"
        for test_set, values in scores.items():
            if record.primary_metric not in values:
                return f"{where}.{test_set:.80}: no {record.primary_metric}, the metric that the trial is judged by"
            for metric in _RANGES.keys() & values.keys():
                low, high = _RANGES[metric]
                if not low - NEAR <= values[metric] <= high + NEAR:
                    return f"{where}.{test_set:.80}.{metric}: {values[metric]:g} is not from {low:g} to {high:g}"
    return None


def find_table_fault(table: pl.DataFrame) -> TableFault | None:
    """What is wrong with a trial's predictions, whose rows have a test set and an id; None where nothing is."""
    if table.select("test_set", "row_id").is_duplicated().any():
        return "rows"
    scores = [column for column in table if column.name.startswith("score_")]
    return None if all(map(_holds_numbers, scores)) else "scores"


def _holds_numbers(column: pl.Series) -> bool:
    import numpy as np

    return (column.dtype.is_float() or column.dtype.is_integer()) and bool(np.isfinite(column.to_numpy()).all())


def format_error(error: ValidationError) -> str:
    """Format the first of what is wrong: 'notes.losses: Input should be a valid list'."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place:.{MOST_SHOWN}}{': ' if place else ''}{first['msg']:.{MOST_SHOWN}}"


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie deeper within one another than a record's or a study's do."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
