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
from fewtune.records import Record, append_event
from fewtune.running.circumstances import describe_axes
from fewtune.running.folder import check_whole, claim_folder, open_folder
from fewtune.running.job import Event, Job
from fewtune.running.ledger import Ledger
from fewtune.running.prepare import prepare_jobs
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
class Closed:
    """Every trial has its record, and the folder is let go of."""


StudyEvent = Preparing | Prepared | Noticed | Opened | Event | Closed
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
        todo = [job for job in jobs if job.trial_id not in done]
        append_event(out, "run", trials=len(jobs), reused=len(done))
        on_event(Opened(todo, list(done.values())))
        carry_out(todo, out, executor, on_event)
        check_whole(out, cells)
    on_event(Closed())


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
