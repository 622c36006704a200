"""The protocol of a tracker, and a trial as one run: parameters, steps and record.

Owns the protocol, and what of a record is told under which name. A study's folder is the truth: a tracker may lack
trials, which are told to it later, and is never read back.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fewtune.plurals import pluralise
from fewtune.records import Record, RecordFiles, TrialAxes


@dataclass(frozen=True)
class TrackedRun:
    """A run that a tracker has of a trial."""

    run_id: str
    record_sha256: str | None
    """Of the record that it was told; None while it was told of none."""


class Tracker(Protocol):
    """Where runs are told; every method may raise anything, such as of a server that is down."""

    def list_runs(self) -> Mapping[str, TrackedRun]:
        """The study's runs by trial id, the newest of each."""
        ...

    def begin(self, trial_id: str, axes: TrialAxes) -> str:
        """Begin a trial's run; returns its id."""
        ...

    def step(self, run_id: str, step: int, loss: float) -> None:
        """Tell the loss of a step of a trial's fit."""
        ...

    def end(self, run_id: str, record: Record, files: RecordFiles) -> None:
        """Tell a trial's record, with its files, and end its run."""
        ...

    def leave(self, run_id: str) -> None:
        """End the run of a trial that was interrupted and has no record yet: it may go on."""
        ...

    def conclude(self, decision: str) -> None:
        """Tell what the study decides, in words."""
        ...


def check_installed(package: str) -> None:
    """Raise ModuleNotFoundError where a tracker's package is not there, without importing it."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def name_run(axes: TrialAxes) -> str:
    """A trial's name among the runs of its study."""
    model = "" if axes.model is None else f" · {axes.model}"
    pattern = "" if axes.pattern is None else f" · {axes.pattern}"
    draw = f"{pluralise(axes.shots, 'shot')} · draw {axes.data_seed} · fit {axes.fit_seed}"
    return f"{axes.variant} · {axes.task}{model}{pattern} · {draw}"


def list_axes(axes: TrialAxes) -> dict[str, str]:
    """Where in its study a trial belongs, flat."""
    named = axes.model_dump(exclude={"settings"}, exclude_none=True)
    return {name: str(value) for name, value in named.items()}


def list_settings(axes: TrialAxes) -> dict[str, str]:
    """A trial's settings, flat; of a tuned trial they are known when it has ended."""
    return {f"settings.{name}": str(value) for name, value in axes.settings.items()}


def list_metrics(record: Record) -> dict[str, float]:
    """A record's scores, the majority's, and its costs, flat; what was not measured is left out."""
    found = {f"{test}.{name}": value for test, each in record.metrics.items() for name, value in each.items()}
    for test, each in record.baselines.items():
        found |= {f"{test}.{name}": each[name] for name in ("chance", "majority") if name in each}
    if record.cost is not None:
        found |= {f"cost.{name}": value for name, value in record.cost.model_dump(exclude_none=True).items()}
    return {name: float(value) for name, value in found.items()}


def fingerprint_files(files: RecordFiles) -> str:
    """What tells a trial's record and predictions from any others of it."""
    return hashlib.sha256(files.record + (files.predictions or b"")).hexdigest()
