"""The model that is taken home: a method fitted on all rows of a file, calibrated by folds of them, and measured.

Owns the last fit and what is found out about it. Which method it is, is `auto`'s or the user's to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewtune.auto import choose_settings
from fewtune.errors import DataError
from fewtune.evaluation import measure
from fewtune.metrics.counts import SCORES
from fewtune.metrics.reliability import describe_calibration
from fewtune.plurals import word_number
from fewtune.predictors.abstention import choose_abstention
from fewtune.predictors.temperature import fit_temperature, normalise
from fewtune.running.fit_rows import FitRequest, OnStep, Row, fit_task, hear_nothing, make_task
from fewtune.running.fold_scores import choose_folds, score_folds
from fewtune.tasks.base import Task, TestSet

if TYPE_CHECKING:
    from fewtune.predictors.predictor import Predictor


@dataclass(frozen=True)
class Recipe:
    """How the last fit is made, and what is found out by folds of its rows.

    `folds` is how many, 0 for none; None: three, or as many as the rarest label has rows.
    """

    method: str
    model: str | None = None
    seed: int = 0
    folds: int | None = None
    risk: float | None = None
    """Share of its answers that may be wrong, where the model is to abstain; None: it always answers."""
    settings: Mapping[str, Any] | None = None
    """The method's; None: those that it races with, its epochs fewer of many rows."""
    max_tokens: int | None = None
    """Tokens of one row's prompt; None: as many as in a study."""


@dataclass(frozen=True)
class FittedFile:
    """A file's rows, the predictor fitted on all of them, and what models that had not seen each row made of it."""

    predictor: Predictor
    rows: Sequence[Mapping[str, str]]
    numbers: Sequence[str]
    """Where each stands in the file, from 1, or what its task calls it; repeats and contradictions are left out."""
    gold: npt.NDArray[np.int64]
    """The place of each row's label among the predictor's, (rows,)."""
    probabilities: np.ndarray | None
    """By the folds' models, calibrated, (rows, labels); None without folds."""
    refused: str | None = None
    """Why it always answers although a risk was asked for."""


def fit_file(
    task: Task,
    recipe: Recipe,
    found: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
    on_step: OnStep = hear_nothing,
) -> FittedFile:
    """Fit a method on all training rows of a task, and calibrate it by folds of them.

    `found` joins what the model says of where it came from; `say` hears what goes on, `on_step` the steps of each fit.
    Raises FewtuneError where something cannot be used.
    """
    rows = [row.fields for row in task.train]
    labels = [task.labels[row.label] for row in task.train if row.label is not None]
    gold = np.array([row.label for row in task.train], dtype=np.int64)

    def fit(some: Sequence[Row], given: Sequence[str]) -> Predictor:
        settings = recipe.settings
        if settings is None:
            settings = choose_settings(recipe.method, len(some), recipe.model)
        request = FitRequest(recipe.method, recipe.model, settings, recipe.seed, recipe.max_tokens)
        return fit_task(make_task(some, given, task), (), request, on_step)

    folds = choose_folds(labels) if recipe.folds is None else recipe.folds
    if not folds and recipe.folds is None:
        say("There is one row alone of a label: no fold can do without it, and the model is not calibrated.")
    scores = score_folds(rows, labels, fit, folds, recipe.seed, say) if folds else None
    say(f"Fitting {recipe.method} on all {word_number(len(rows), 'row')} …")
    predictor = fit(rows, labels)
    predictor = replace(predictor, origin={**predictor.origin, "label_counts": dict(Counter(labels)), **(found or {})})
    probabilities, refused = None, None
    if scores is not None:
        predictor, probabilities = calibrate(predictor, scores, gold)
        if recipe.risk is not None:
            try:
                predictor = replace(predictor, abstention=choose_abstention(probabilities, gold, recipe.risk))
            except DataError as reason:  # minutes of fitting are kept: the model answers all, and says so
                refused = str(reason)
    elif recipe.risk is not None:
        refused = "a threshold is chosen by folds of the rows, and there were none."
    tests = {test.name: _measure_test(predictor, test) for test in task.test_sets if test.rows}
    if tests:
        predictor = replace(predictor, origin={**predictor.origin, "tests": tests})
    numbers = [row.row_id.removeprefix("train/") for row in task.train]
    return FittedFile(predictor, rows, numbers, gold, probabilities, refused)


def _measure_test(predictor: Predictor, test: TestSet) -> dict[str, Any]:
    """A test set's metrics with their intervals, and how many rows it has."""
    gold = np.array([row.label for row in test.rows], dtype=np.int64)
    probabilities = predictor.predict_probabilities([row.fields for row in test.rows])
    return {"rows": len(gold), "metrics": _list_scores(probabilities, gold)}


def _list_scores(probabilities: np.ndarray, gold: npt.NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Each score's mean and the ends of its interval."""
    found = measure(probabilities, gold).metrics.items()
    return {name: [bounds.mean, bounds.low, bounds.high] for name, bounds in found if name in SCORES}


def calibrate(predictor: Predictor, scores: np.ndarray, gold: npt.NDArray[np.int64]) -> tuple[Predictor, np.ndarray]:
    """The predictor with a temperature, and the calibrated probabilities (rows, labels), from log-probabilities (rows,
    labels) of rows that were not fitted on.
    """
    temperature = fit_temperature(scores, gold)
    before, after = np.exp(scores), np.exp(normalise(scores / temperature))
    learnt = {
        "rows": len(gold),
        "before": describe_calibration(before, gold),
        "after": describe_calibration(after, gold),
        "metrics": _list_scores(after, gold),
    }
    origin = {**predictor.origin, "out_of_fold": learnt}
    return replace(predictor, origin=origin, temperature=temperature), after
