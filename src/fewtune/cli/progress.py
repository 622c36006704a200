"""Progress of a running study: a live table on a terminal, plain lines elsewhere.

Owns the two listeners. Does not know what a trial does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fewtune.analysis.time_left import TimedTrials
from fewtune.plurals import pluralise
from fewtune.records import Record
from fewtune.report.wording import MAJORITY, format_about
from fewtune.running.job import Event, Finished, Job, Progress, Progressed, Started
from fewtune.running.trial_metadata import describe_axes
from fewtune.system.terminal import make_message, make_text

ROWS_SHOWN = 10
"""Finished trials that stay in the live table."""


class TimeLeft:
    """The seconds left, guessed anew as trials finish, from them, from those of earlier runs and from a forecast."""

    def __init__(self, jobs: Sequence[Job], workers: int, finished: TimedTrials, forecast: TimedTrials) -> None:
        self._left = Counter(describe_axes(job.trial).cell for job in jobs if job.skip_reason is None)
        self._workers = workers
        self._finished, self._forecast = finished.copy(), forecast
        self.seconds: float | None = None
        """Seconds left; None while no trial was timed."""
        self._guess()

    def finish(self, job: Job, record: Record) -> None:
        if job.skip_reason is None:
            self._left[describe_axes(job.trial).cell] -= 1
        self._finished.add(record)
        self._guess()

    def _guess(self) -> None:
        self.seconds = self._finished.guess(self._left, self._workers, self._forecast)


class Listener(Protocol):
    """Who is told how a study goes, event by event."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, progress: Progress) -> None: ...
    def finished(self, job: Job, record: Record) -> None: ...


class _Skips:
    """What was told of trials that found out as they ran that they must be skipped: each reason once a method."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str | None, str]] = set()

    def is_news(self, record: Record) -> bool:
        """Whether a trial ran, or is the first of its method on its model to be skipped for its reason."""
        if record.status != "skipped" or record.failure is None:
            return True
        skip = (record.trial.variant, record.trial.model, record.failure.message)
        new = skip not in self._told
        self._told.add(skip)
        return new


class LiveProgress:
    """A table that redraws in place; use as a context."""

    def __init__(self, console: Console, total: int, time_left: TimeLeft) -> None:
        self._total = total
        self._done = 0
        self._time_left = time_left
        self._began: dict[str, float] = {}
        self._running: dict[str, tuple[Job, Progress]] = {}
        self._finished: deque[tuple[Job, Record, float]] = deque(maxlen=ROWS_SHOWN)
        self._skips = _Skips()
        self._changing = threading.Lock()
        """Held while trials begin or end, and while the thread that draws copies them."""
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed shows nothing any more
            self._live.stop()

    def started(self, job: Job) -> None:
        with self._changing:
            self._began[job.trial_id] = time.monotonic()
            self._running[job.trial_id] = (job, Progress("starting"))

    def progressed(self, job: Job, progress: Progress) -> None:
        with self._changing:
            self._running[job.trial_id] = (job, progress)

    def finished(self, job: Job, record: Record) -> None:
        with self._changing:
            seconds = time.monotonic() - self._began.pop(job.trial_id)
            self._running.pop(job.trial_id, None)
            if self._skips.is_news(record):
                self._finished.append((job, record, seconds))
            self._time_left.finish(job, record)
            self._done += 1

    def _draw(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=True)
        for name in ("trial", "draw", "state", "loss", "seconds"):
            table.add_column(name, justify="right" if name in ("loss", "seconds") else "left", no_wrap=name != "state")
        with self._changing:
            ended, running, began = list(self._finished), list(self._running.values()), dict(self._began)
        for job, record, seconds in ended:
            told = make_message(describe_outcome(record))
            table.add_row(make_text(_name_trial(job)), str(job.trial.data_seed), told, "", f"{seconds:.0f}")
        for job, progress in running:
            state: RenderableType = make_text(progress.phase)
            if progress.steps:
                bar = ProgressBar(total=progress.steps, completed=progress.step, width=16)
                state = Table.grid(padding=(0, 1))
                state.add_row(make_text(f"{progress.phase} {progress.step}/{progress.steps}"), bar)
            loss = "" if progress.loss is None else f"{progress.loss:.3f}"
            seconds = time.monotonic() - began[job.trial_id]
            table.add_row(
                make_text(_name_trial(job), style="bold"), str(job.trial.data_seed), state, loss, f"{seconds:.0f}"
            )
        left = self._time_left.seconds
        foot = Table.grid(padding=(0, 1))
        foot.add_row(
            ProgressBar(total=self._total, completed=self._done, width=30),
            f"{self._done} of {pluralise(self._total, 'trial')}",
            "" if left is None else f"{format_about(left)} left",
        )
        return Group(table, Text(), foot)


class PlainProgress:
    """One line a trial, for logs and pipes; use as a context."""

    def __init__(self, console: Console, total: int, time_left: TimeLeft) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._time_left = time_left
        self._began: dict[str, float] = {}
        self._skips = _Skips()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        return

    def started(self, job: Job) -> None:
        self._began[job.trial_id] = time.monotonic()

    def progressed(self, job: Job, progress: Progress) -> None:
        return

    def finished(self, job: Job, record: Record) -> None:
        seconds = time.monotonic() - self._began.pop(job.trial_id)
        self._time_left.finish(job, record)
        self._done += 1
        if not self._skips.is_news(record):
            return
        left = self._time_left.seconds
        told = f"{seconds:.0f} s" + (f"; {format_about(left)} left" if left is not None else "")
        line = (
            f"[{self._done}/{self._total}] {_name_trial(job)} draw {job.trial.data_seed}: "
            f"{describe_outcome(record)} ({told})"
        )
        self._console.print(make_message(line), soft_wrap=True)


def pass_on(listener: Listener, event: Event) -> None:
    """Tell a listener of one event."""
    if isinstance(event, Started):
        listener.started(event.job)
    elif isinstance(event, Progressed):
        listener.progressed(event.job, event.progress)
    elif isinstance(event, Finished):
        listener.finished(event.job, event.record)


def describe_outcome(record: Record) -> str:
    """One trial's outcome in a few words."""
    if record.status != "done" or "in_domain" not in record.metrics:
        reason = record.failure.message if record.failure is not None else "no reason recorded"
        return f"{record.status}: {reason}"
    names = dict.fromkeys((record.primary_metric, "accuracy"))
    scores = ", ".join(f"{name} {record.metrics['in_domain'][name]:z.3f}" for name in names)
    return f"{scores} ({MAJORITY} {record.baselines['in_domain']['majority']:.3f})"


def _name_trial(job: Job) -> str:
    model = f"{job.trial.model.name} " if job.trial.model is not None else ""
    return f"{job.trial.task.label} {model}{job.trial.method.variant}, {pluralise(job.trial.shots, 'shot')}"
