"""From one labelled file to a model: a race that chooses a method, and that method fitted on all rows and calibrated.

Owns which methods race and with how many rows, what is fitted in the end, and what the rows' own folds say of it. The
race is a study like any other, and stays in its folder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from fewtune.api import run_study
from fewtune.errors import FewtuneError
from fewtune.evaluation import measure
from fewtune.metrics.counts import SCORES
from fewtune.metrics.reliability import describe_calibration
from fewtune.predictors.abstention import choose_abstention
from fewtune.predictors.temperature import fit_temperature, normalise
from fewtune.results import StudyResult
from fewtune.running.fit_rows import fit_rows
from fewtune.running.fold_scores import FOLDS, check_folds, score_folds
from fewtune.tasks import own_files
from fewtune.tasks.base import Task

if TYPE_CHECKING:
    from fewtune.conduct import StudyEvent
    from fewtune.executors.base import Executor
    from fewtune.predictors.predictor import Predictor

DEFAULT_MODEL = "smollm2-135m"
RACED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("in_context", {"calibration": "contextual"}),
    ("lora", {"epochs": 10}),
    ("pattern", {"epochs": 10, "learning_rate": 2e-5}),
)
"""Methods that race beside the floors, with their settings: of each kind that costs differently, a steady one.

Their fits are shorter than the defaults', so that a race ends in minutes on two cores.
"""
MOST_SHOTS = 32
"""Labelled rows that a trial is fitted on at most: with more it takes minutes, and methods keep their order."""
MOST_DRAWS = 8
"""Splits of one file share rows: further ones add little."""


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled rows and which of its columns to read; None where only one choice is sensible."""

    train: Path
    text: tuple[str, ...] | None = None
    label: str | None = None
    tests: Mapping[str, Path] = field(default_factory=dict)
    """Files of test rows by name: `in_domain`, and any number out of domain."""
    conflicts: str = "drop"
    """What is done with rows of one text and different labels: drop or refuse."""

    def read(self) -> Task:
        """Its rows, each text once; raises DataError where it cannot be used."""
        return own_files.load(TypeAdapter(own_files.Settings).validate_python(self.settings()), None)

    def settings(self) -> dict[str, Any]:
        """The same as a study names it."""
        text = None if self.text is None else self.text[0] if len(self.text) == 1 else list(self.text)
        tests = {name: str(path) for name, path in self.tests.items()}
        named = {"text": text, "label": self.label, "conflicts": self.conflicts}
        return {"train": str(self.train), **named, "tests": tests}


def write_rows(rows: Sequence[Mapping[str, str]], labels: Sequence[str], path: Path) -> LabelledFile:
    """Rows at hand as a file that a race reads, JSON Lines; all rows have the texts of the first."""
    fields = tuple(rows[0])
    column = next(
        name for name in ("label", "label_", "label__") if name not in fields
    )  # of texts there are two at most
    lines = [json.dumps({**row, column: label}) for row, label in zip(rows, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return LabelledFile(path, fields, column)


def race_methods(
    file: LabelledFile,
    model: str,
    out: Path,
    within: float | None = None,
    minutes: float | None = None,
    executor: Executor | None = None,
    on_event: Callable[[StudyEvent], None] = lambda event: None,
) -> StudyResult:
    """Race the methods on splits of a file's rows, into a folder; raises FewtuneError where it cannot be used."""
    study: dict[str, Any] = {
        "name": name_study(file.train),
        "models": [model],
        "tasks": [{"own_files": {"as": name_study(file.train), **file.settings()}}],
        "methods": [{name: dict(settings)} if settings else name for name, settings in RACED],
        "shots": [choose_shots(file.read())],
        "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 200},
        "until": {"most_draws": MOST_DRAWS},
    }
    study |= {} if within is None else {"within": within}
    study |= {} if minutes is None else {"budget": {"minutes": minutes}}
    return run_study(study, out, executor=executor, on_event=on_event)


def choose_shots(task: Task) -> int:
    """How many rows a trial is fitted on: half of what a draw may take, as many of each label, MOST_SHOTS at most.

    Draws that take nearly all rows are nearly one draw, and say little of rows like these.
    """
    counts = Counter(row.label for row in task.train)
    held_out = task.held_out or 0.0
    rarest = min(max(1, int(count * (1 - held_out) / 2)) for count in counts.values())
    return max(len(task.labels), min(MOST_SHOTS, rarest * len(task.labels)))


def name_study(path: Path) -> str:
    """A study's name from a file's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "rows"


def choose_method(result: StudyResult) -> str:
    """The method that a race chose; where it chose none, the one that is bounded nearest to the best.

    Raises FewtuneError where none was scored.
    """
    decision = result.decision
    if decision.chosen is not None:
        return decision.chosen.name
    closest = decision.missing.closest if decision.missing is not None else None
    found = closest or decision.best
    if found is None:
        raise FewtuneError("no method was scored, so that none can be fitted. Give a larger budget, or name a method.")
    return found


@dataclass(frozen=True)
class Recipe:
    """How the last fit is made, and what is found out by folds of its rows: none where `folds` is 0."""

    method: str
    model: str | None = None
    seed: int = 0
    folds: int = FOLDS
    risk: float | None = None
    """Share of its answers that may be wrong, where the model is to abstain; None: it always answers."""


@dataclass(frozen=True)
class FittedFile:
    """A file's rows, the predictor fitted on all of them, and what models that had not seen each row made of it."""

    predictor: Predictor
    rows: Sequence[Mapping[str, str]]
    gold: npt.NDArray[np.int64]
    """The place of each row's label among the predictor's, (rows,)."""
    probabilities: np.ndarray | None
    """By the folds' models, calibrated, (rows, labels); None without folds."""


def fit_file(
    file: LabelledFile,
    recipe: Recipe,
    found: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> FittedFile:
    """Fit a method on all rows of a file with the settings it races with, and calibrate it by folds of them.

    `found` joins what the model says of where it came from. Raises FewtuneError where something cannot be used.
    """
    task = file.read()
    rows = [row.fields for row in task.train]
    labels = [task.labels[row.label] for row in task.train if row.label is not None]
    gold = np.array([row.label for row in task.train], dtype=np.int64)
    fit = partial(
        fit_rows,
        method=recipe.method,
        model=recipe.model,
        settings=dict(RACED).get(recipe.method, {}),
        seed=recipe.seed,
    )
    if recipe.folds:
        check_folds(labels, recipe.folds)
    scores = None
    if recipe.folds:
        scores = score_folds(rows, labels, fit, recipe.folds, recipe.seed, say)
    say(f"Fitting {recipe.method} on all {len(rows)} rows …")
    predictor = fit(rows, labels)
    predictor = replace(predictor, origin={**predictor.origin, "label_counts": dict(Counter(labels)), **(found or {})})
    if scores is None:
        return FittedFile(predictor, rows, gold, None)
    calibrated, probabilities = calibrate(predictor, scores, gold, recipe.risk)
    return FittedFile(calibrated, rows, gold, probabilities)


def calibrate(
    predictor: Predictor, scores: np.ndarray, gold: npt.NDArray[np.int64], risk: float | None = None
) -> tuple[Predictor, np.ndarray]:
    """The predictor with a temperature, and a threshold for a risk, and the calibrated probabilities (rows, labels),
    from log-probabilities (rows, labels) of rows that were not fitted on; raises DataError where no threshold holds it.
    """
    temperature = fit_temperature(scores, gold)
    before, after = np.exp(scores), np.exp(normalise(scores / temperature))
    abstention = None if risk is None else choose_abstention(after, gold, risk)
    learnt = {
        "rows": len(gold),
        "before": describe_calibration(before, gold),
        "after": describe_calibration(after, gold),
        "metrics": {
            name: [bounds.mean, bounds.low, bounds.high]
            for name, bounds in measure(after, gold).metrics.items()
            if name in SCORES
        },
    }
    origin = {**predictor.origin, "out_of_fold": learnt}
    return replace(predictor, origin=origin, temperature=temperature, abstention=abstention), after
