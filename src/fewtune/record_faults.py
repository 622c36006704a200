"""What makes a record unsound though every field is there: notes of other types, figures that nothing measures.

Owns the notes that analysis and reports read, typed, and what a record's figures can be. Hand-edited records are told
by it before anything is computed from them. Does not know files (`records`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from fewtune.records import Record

DEEPEST = 40
"""Lists and objects within one another that a record may hold."""
MOST_SHOWN = 120
NEAR = 1e-9

Count = Annotated[int, Field(ge=0, lt=2**63)]
Scores = dict[str, dict[str, float]]
_Positive = Annotated[float, Field(ge=0, lt=2**63, allow_inf_nan=False)]
_RANGES = {"accuracy": (0.0, 1.0), "macro_f1": (0.0, 1.0), "mcc": (-1.0, 1.0)}


class _Typed(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _ParameterGroup(_Typed):
    name: str
    tensors: Count
    parameters: Count
    peak_learning_rate: float
    rates: list[float] | None = None


class _Tuning(_Typed):
    chosen: dict[str, Any]
    tried: list[dict[str, Any]]
    trials: Count
    folds: Count
    seconds: _Positive


class _SharedRows(_Typed):
    sets: Annotated[list[str], Field(min_length=2, max_length=2)]
    rows: Count
    exact: Count
    example: list[str]


class _Notes(_Typed):
    """The notes that anything reads; others may stand beside them."""

    losses: list[float | None] = []
    parameter_groups: list[_ParameterGroup] = []
    tuning: _Tuning | None = None
    label_words: list[str] = []
    label_word_tokens: list[list[int]] | None = None
    label_words_split_cleanly: bool | None = None
    truncated_rows: Count = 0
    truncated_tokens: Count = 0
    teacher_truncated_rows: Count = 0
    teacher_truncated_tokens: Count = 0
    companions: dict[str, Scores] = {}
    companion_agreement: Scores | dict[str, dict[str, float]] = {}
    shared_rows: list[_SharedRows] = []
    demonstration_rows: list[str] = []
    teacher_contexts: list[list[str]] = []


class _Environment(_Typed):
    workers: Annotated[int, Field(ge=1)] = 1


class _Baselines(_Typed):
    chance: Annotated[float, Field(gt=0, le=1)] | None = None
    majority: Annotated[float, Field(ge=0, le=1)] | None = None
    rows: _Positive = 0.0
    labels: Annotated[float, Field(gt=0)] | None = None


class _Cost(BaseModel):
    model_config = ConfigDict(extra="allow", from_attributes=True)

    fit_seconds: _Positive | None
    predict_seconds: _Positive | None
    predict_rows: Count | None
    load_seconds: _Positive | None
    peak_memory_bytes: Count | None
    resident_memory_bytes: Count | None
    trainable_parameters: Count | None
    total_parameters: Count | None
    fit_tokens: Count | None
    predict_tokens: Count | None


class _Figures(BaseModel):
    """What a record counts and measures."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)

    notes: _Notes
    environment: _Environment
    baselines: dict[str, _Baselines]
    cost: _Cost | None
    phase_seconds: dict[str, _Positive]
    primary_metric: Literal["accuracy", "mcc", "macro_f1"]


def find_fault(record: Record) -> str | None:
    """Word the first thing in a record that cannot be; None where it is sound."""
    try:
        _Figures.model_validate(record)
    except ValidationError as error:
        return word_error(error)
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


def word_error(error: ValidationError) -> str:
    """Word the first of what is wrong: 'notes.losses: Input should be a valid list'."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place:.{MOST_SHOWN}}: {first['msg']:.{MOST_SHOWN}}"


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
