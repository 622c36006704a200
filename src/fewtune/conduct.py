"""A whole study run into its folder: made ready, reused where it is done, run, written; every event is passed on.

Owns that order, and what is told of a study beside what executors tell of its trials. Does not know where trials run
(`executors`), or how what is told is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fewtune.errors import RecordError
from fewtune.executors.base import Executor
from fewtune.records import Cell, Record, append_event, write_looks, write_planned
from fewtune.running.circumstances import describe_axes
from fewtune.running.folder import check_whole, claim_folder, open_folder
from fewtune.running.job import Event, Finished, Job
from fewtune.running.ledger import Ledger
from fewtune.running.looks import begin_looks, take_look
from fewtune.running.prepare import prepare_jobs
from fewtune.running.race import Race, Standing
from fewtune.study import Study
from fewtune.tasks.base import Task


@dataclass(frozen=True)
class Preparing:
    """The folder is the study's; models and data are being found."""

    study: Study
    folder: Path


@dataclass(frozen=True)
class Prepared:
    """Every trial of the study is known, and nothing has run."""

    jobs: Sequence[Job]
    tasks: Mapping[str, Task]
    """By their labels."""


@dataclass(frozen=True)
class Noticed:
    """Something about the folder that its user should know, in words."""

    text: str


@dataclass(frozen=True)
class Opened:
    """The folder is held; trials begin."""

    jobs: Sequence[Job]
    """Those that will run."""
    reused: Sequence[Record]
    """Of trials that were done before."""


@dataclass(frozen=True)
class Looked:
    """A race looked at its draws."""

    number: int
    """Which look it was, from 1."""
    draws: int
    looks: Sequence[int]
    """The draws of each look that may be."""
    standings: Sequence[Standing]
    """Of every task and number of shots that was still open."""


@dataclass(frozen=True)
class Closed:
    """Every trial has its record, and the folder is let go of."""


StudyEvent = Preparing | Prepared | Noticed | Opened | Event | Looked | Closed
"""What is told while a study runs, in this order; of trials, what their executor tells, once it is written down."""

OnEvent = Callable[[StudyEvent], None]


def conduct_study(study: Study, out: Path, executor: Executor, on_event: OnEvent) -> None:
    """Run those of a study's trials that are not done yet into its folder.

    Each record is written whole as its trial ends: an interrupted study loses the running trials only. Raises
    StudyError with everything that does not fit, RecordError where the folder cannot be used; a signal
    (KeyboardInterrupt) ends the trials and is raised again.
    """
    claim_folder(out, study)
    on_event(Preparing(study, out))
    jobs, tasks = prepare_jobs(study, executor.options.data_dir)
    on_event(Prepared(jobs, tasks))
    cells = {job.trial_id: describe_axes(job.trial).cell for job in jobs}
    with open_folder(out, study, cells, lambda line: on_event(Noticed(line))) as done:
        if study.until is None:
            history = begin_looks(out, [len(study.data_seeds)], done.values())
            _run_rest(jobs, done, out, executor, on_event)
            check_whole(out, cells)
            write_looks(out, take_look(history, cells, len(study.data_seeds)))
        else:
            _race(Race(jobs, study.data_seeds, out, done.values()), done, out, executor, on_event)
    on_event(Closed())


def _run_rest(
    jobs: Sequence[Job], done: Mapping[str, Record], out: Path, executor: Executor, on_event: OnEvent
) -> dict[str, Record]:
    """Run those of the jobs that are not done; the records of all of them, by trial id."""
    todo = [job for job in jobs if job.trial_id not in done]
    known = {job.trial_id: done[job.trial_id] for job in jobs if job.trial_id in done}
    append_event(out, "run", trials=len(jobs), reused=len(known))
    on_event(Opened(todo, list(known.values())))

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            known[event.job.trial_id] = event.record
        on_event(event)

    carry_out(todo, out, executor, hear)
    return known


def _race(race: Race, done: Mapping[str, Record], out: Path, executor: Executor, on_event: OnEvent) -> None:
    """Run a study look by look, until every race is over; the folder's trials are those of the looks so far."""
    known = dict(done)
    cells: dict[str, Cell] = {}
    for number, draws in enumerate(race.looks, start=1):
        jobs = race.list_jobs(draws)
        cells |= {job.trial_id: describe_axes(job.trial).cell for job in jobs}
        write_planned(out, cells)
        known |= _run_rest(jobs, known, out, executor, on_event)
        check_whole(out, cells)
        standings = race.look(draws)
        on_event(Looked(number, draws, race.looks, standings))
        if race.is_over:
            return


def carry_out(jobs: Sequence[Job], out: Path, executor: Executor, on_event: Callable[[Event], None]) -> None:
    """Run every job and write what comes of it into a folder that is held; each event is passed on once written."""
    ledger = Ledger(out, executor.options)
    with closing(executor.run(jobs)) as events:
        try:
            for event in events:
                on_event(ledger.write(event))
        except KeyboardInterrupt:
            with contextlib.suppress(RecordError):  # the signal ends the run, whether or not it can be written down
                ledger.tell("interrupted")
            raise
