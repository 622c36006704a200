"""Forecasts a study: seconds, memory and disk of each kind of trial, from an excerpt of one or from records.

Owns which trial is measured for which others, and what is known of each kind. How an excerpt becomes a forecast is
`excerpt`'s.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fewtune.analysis.time_left import guess_seconds_left
from fewtune.records import Cell, Failure, Record
from fewtune.running.job import Event, Excerpt, Finished, Job, Lost
from fewtune.running.trial_metadata import describe_axes, failed_record
from fewtune.system.processor import name_processor

if TYPE_CHECKING:
    import polars as pl

    from fewtune.running.executors.base import Executor

BAND = 0.3
"""How far seconds may be off to either side: benchmarks/forecast.py measures it."""

_Kind = tuple[str, str | None, str]
"""A task's label, a model's name and a variant: trials of other draws, seeds and shots are forecast together."""


@dataclass(frozen=True)
class Forecast:
    """What a trial of one cell of the study is thought to take; None: not known."""

    cell: Cell
    trials: int
    """How many of them wait."""
    seconds: float | None
    """Of one trial, its model being loaded."""
    load_seconds: float | None
    """Of loading the model, once a process."""
    memory_bytes: int | None
    """Held by the process at most."""
    disk_bytes: int | None
    """Of its record and predictions."""
    from_records: bool
    """Worked out from records of such trials, and not measured now."""
    fault: str | None = None
    """Why it is not known."""


@dataclass(frozen=True)
class StudyForecast:
    """What the trials that wait are thought to take, by cell, and the records that it was worked out from."""

    cells: tuple[Forecast, ...]
    records: tuple[Record, ...]
    workers: int

    @property
    def seconds(self) -> float | None:
        """Of all trials that wait, models loaded once a process; None where one is not known."""
        loads: dict[str | None, float] = {}
        for cell in self.cells:
            loads[cell.cell.model] = max(loads.get(cell.cell.model, 0.0), cell.load_seconds or 0.0)
        known = [(cell.trials, cell.seconds) for cell in self.cells if cell.seconds is not None]
        if len(known) < len(self.cells):
            return None
        total = math.fsum(trials * each for trials, each in known)
        return total / self.workers + sum(loads.values())

    @property
    def memory_bytes(self) -> int | None:
        """The most that the processes hold at once."""
        known = [cell.memory_bytes for cell in self.cells if cell.memory_bytes is not None]
        return self.workers * max(known) if known else None

    @property
    def disk_bytes(self) -> int | None:
        """Of all records and predictions to come; kinds that were not measured take what the others do on average."""
        known = [(cell.trials, cell.disk_bytes) for cell in self.cells if cell.disk_bytes is not None]
        if not known:
            return None
        total = sum(trials * each for trials, each in known)
        return round(total * sum(cell.trials for cell in self.cells) / sum(trials for trials, _ in known))


def forecast_trials(
    jobs: Sequence[Job],
    known: Iterable[Record],
    executor: Executor,
    on_event: Callable[[Event], None] = lambda event: None,
    is_spent: Callable[[], bool] = lambda: False,
) -> StudyForecast:
    """Forecast the jobs: by records of such trials, at no fewer shots, that were done on this kind of machine.

    Where there are none, by an excerpt: of each method on a task and model the trial of most shots is run in part, in
    the executor's processes, until `is_spent` says that the time is over. Memory is that of the fewest shots at hand
    that are no fewer than a trial's own.
    """
    waiting = [job for job in jobs if job.skip_reason is None]
    chosen = _choose(waiting)
    records = {
        kind: found
        for kind, found in _group(known).items()
        if kind in chosen and max(record.trial.shots for record in found) >= chosen[kind].trial.shots
    }
    measured = _measure([job for kind, job in chosen.items() if kind not in records], executor, on_event, is_spent)
    disk = {kind: _size_on_disk(record, table) for kind, (record, table) in measured.items()}
    found = []
    for cell, trials in Counter(describe_axes(job.trial).cell for job in waiting).items():
        kind = cell.task, cell.model, cell.variant
        at_hand = records.get(kind, [])
        timed = at_hand or [measured[kind][0]]
        fault = timed[0].failure.message if timed[0].failure is not None else None
        costs = [record.cost for record in timed if record.cost is not None]
        held = {r.trial.shots: 0 for r in timed if r.cost is not None and r.cost.resident_memory_bytes}
        for record in timed:
            if record.trial.shots in held and record.cost is not None:
                held[record.trial.shots] = max(held[record.trial.shots], record.cost.resident_memory_bytes or 0)
        nearest = min((shots for shots in held if shots >= cell.shots), default=None)
        found.append(
            Forecast(
                cell=cell,
                trials=trials,
                seconds=None if fault else guess_seconds_left([_without_loading(r) for r in timed], [cell], 1),
                load_seconds=max((cost.load_seconds or 0.0 for cost in costs), default=None),
                memory_bytes=None if nearest is None else held[nearest],
                disk_bytes=disk.get(kind),
                from_records=bool(at_hand),
                fault=fault,
            )
        )
    every = [record for each in records.values() for record in each] + [record for record, _ in measured.values()]
    return StudyForecast(tuple(found), tuple(every), executor.options.workers)


def refuse_beyond(jobs: Sequence[Job], forecast: StudyForecast, most_bytes: int) -> list[Job]:
    """The jobs, those that would hold more memory than that marked to be skipped, with the reason."""
    beyond = {}
    for each in forecast.cells:
        if each.fault is not None:
            beyond[each.cell] = f"how much memory it holds could not be measured: {each.fault}"
        elif each.memory_bytes is not None and each.memory_bytes > most_bytes:
            held, most = each.memory_bytes / 2**30, most_bytes / 2**30
            beyond[each.cell] = f"forecast to hold {held:.2f} GiB of memory, beyond the budget of {most:.2f} GiB"
    return [replace(job, skip_reason=job.skip_reason or beyond.get(describe_axes(job.trial).cell)) for job in jobs]


def _kind_of(job: Job) -> _Kind:
    cell = describe_axes(job.trial).cell
    return cell.task, cell.model, cell.variant


def _group(known: Iterable[Record]) -> dict[_Kind, list[Record]]:
    """Done trials of this kind of processor, by kind."""
    found: dict[_Kind, list[Record]] = {}
    here = name_processor()
    for record in known:
        if record.status == "done" and record.phase_seconds and record.environment.get("processor") == here:
            found.setdefault((record.trial.task, record.trial.model, record.trial.variant), []).append(record)
    return found


def _choose(jobs: Iterable[Job]) -> dict[_Kind, Job]:
    """One job of each kind, that of most shots: what fewer take is scaled from it."""
    chosen: dict[_Kind, Job] = {}
    for job in jobs:
        kept = chosen.setdefault(_kind_of(job), job)
        if job.trial.shots > kept.trial.shots:
            chosen[_kind_of(job)] = job
    return chosen


def _measure(
    jobs: Sequence[Job], executor: Executor, on_event: Callable[[Event], None], is_spent: Callable[[], bool]
) -> dict[_Kind, tuple[Record, pl.DataFrame | None]]:
    """Run an excerpt of each job; what came of it, by kind: a failure where the time was over before."""
    late = Failure(kind="error", message="the budget of time was spent before it was measured")
    found: dict[_Kind, tuple[Record, pl.DataFrame | None]] = {
        _kind_of(job): (failed_record(job, late, None, executor.options), None) for job in jobs
    }
    with closing(executor.run([replace(job, excerpt=Excerpt()) for job in jobs])) as events:
        for event in events:
            on_event(event)
            if isinstance(event, Finished):
                found[_kind_of(event.job)] = event.record, event.predictions
            elif isinstance(event, Lost):
                failure = Failure(kind="killed", message=event.reason)
                found[_kind_of(event.job)] = failed_record(event.job, failure, None, executor.options), None
            if is_spent():
                break
    return found


def _size_on_disk(record: Record, table: pl.DataFrame | None) -> int | None:
    if table is None or record.cost is None:
        return None
    kept = io.BytesIO()
    table.write_parquet(kept)
    return len(record.model_dump_json()) + round(kept.tell() / len(table) * (record.cost.predict_rows or 0))


def _without_loading(record: Record) -> Record:
    """A record without the seconds that its model took to load, which the first trial of a process alone pays."""
    return record.model_copy(
        update={"phase_seconds": {name: spent for name, spent in record.phase_seconds.items() if name != "load"}}
    )
