"""A job: one trial with all that any process, on any machine, needs to run it; and its events.

Owns these values. A job names models and rows by name and content, never by a path of the process that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.records import Record
from fewtune.study.grid import Trial

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Excerpt:
    """How much of a trial is run to forecast the whole."""

    steps: int = 6
    """Of its fit; the first three warm up."""
    rows: int = 96
    """Of its first test set, and as many again until they took some seconds; of each other one a quarter of that."""


@dataclass(frozen=True)
class Job:
    """A trial, its id, and the content of what it is run on."""

    trial: Trial
    trial_id: str
    data: str
    """The fingerprint of the task's rows."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of models by name: the trial's own first, then others that the method's settings name."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Commits of these models, of those for which the study names one."""
    skip_reason: str | None = None
    """Why the trial cannot run, whatever of its candidate settings is taken."""
    excerpt: Excerpt | None = None
    """Only so much of it runs, and its record is a forecast of the whole; None: all of it."""

    @property
    def rows_key(self) -> str:
        """What tells the task, its settings and its rows from all others."""
        return f"{self.trial.task!r} {self.data}"


@dataclass(frozen=True)
class WorkerOptions:
    """How a process runs trials; none of it decides a result."""

    workers: int = 1
    """Processes that share this machine's cores."""
    data_dir: Path | None = None
    """Where tasks' files lie for the process; None: they are fetched, or named by the study."""
    cache_share: float | None = None
    """Share of memory that what is computed once may take, in all workers together; None: the engine's own."""
    checkpoint_seconds: float | None = None
    """Seconds of a fit between two writings of where it stands; None: the engine's own."""
    threads: int | None = None
    """Threads of each process; None: its share of the cores."""
    devices_per_trial: int = 1
    """Processes, each with a GPU of its own where there are any, that a network which trains is split among."""


@dataclass(frozen=True)
class Progress:
    """Where a running trial stands: its phase, and while fitting its step and loss."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Started:
    """A process has taken a job."""

    job: Job


@dataclass(frozen=True)
class Progressed:
    """A sign of progress from a job."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A job has ended: its record, done or failed, and its per-row predictions where it is done."""

    job: Job
    record: Record
    predictions: pl.DataFrame | None


@dataclass(frozen=True)
class Lost:
    """A job's process ended before the job did, and why."""

    job: Job
    reason: str


Event = Started | Progressed | Finished | Lost
