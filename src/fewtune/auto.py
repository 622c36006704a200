"""From one labelled file to a model: a race that chooses a method, and that method fitted on all rows.

Owns which methods race and with how many rows, and what is fitted in the end. The race is a study like any other, and
stays in its folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from fewtune.api import run_study
from fewtune.errors import FewtuneError
from fewtune.results import StudyResult
from fewtune.running.fit_rows import fit_rows
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
    label: str = "label"
    tests: Mapping[str, Path] = field(default_factory=dict)
    """Files of test rows by name: `in_domain`, and any number out of domain."""

    def read(self) -> Task:
        """Its rows, each text once; raises DataError where it cannot be used."""
        return own_files.load(TypeAdapter(own_files.Settings).validate_python(self.settings()), None)

    def settings(self) -> dict[str, Any]:
        """The same as a study names it."""
        text = None if self.text is None else self.text[0] if len(self.text) == 1 else list(self.text)
        tests = {name: str(path) for name, path in self.tests.items()}
        return {"train": str(self.train), "text": text, "label": self.label, "tests": tests}


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


def fit_all(file: LabelledFile, method: str, model: str | None, seed: int = 0) -> Predictor:
    """A method fitted on all rows of a file, with the settings it races with."""
    task = file.read()
    rows: Sequence[Mapping[str, str]] = [row.fields for row in task.train]
    labels = [task.labels[row.label] for row in task.train if row.label is not None]
    return fit_rows(rows, labels, method, model, dict(RACED).get(method, {}), seed)
