"""A whole study run into its folder: what is done is reused, the rest runs, every event is written and passed on.

Owns that order, the same for the command line and for Python. Does not know where trials run (`executors`) or how they
are shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

from fewtune.errors import RecordError
from fewtune.executors.base import Executor
from fewtune.records import Record, append_event
from fewtune.running.folder import check_whole, open_folder
from fewtune.running.job import Event, Job
from fewtune.running.ledger import Ledger
from fewtune.running.trial import describe_axes
from fewtune.study import Study

OnEvent = Callable[[Event], None]
Watch = Callable[[Sequence[Job], Collection[Record]], AbstractContextManager[OnEvent]]
"""Made for the jobs that will run and the records that are reused; hears each event once it is written."""


def run_jobs(
    study: Study,
    jobs: Sequence[Job],
    out: Path,
    executor: Executor,
    watch: Watch,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Run those of a study's jobs that are not done yet; they are returned.

    Each record is written whole as its trial ends: an interrupted study loses the running trials only. Raises
    RecordError where the folder cannot be used; a signal (KeyboardInterrupt) ends the trials and is raised again.
    """
    cells = {job.trial_id: describe_axes(job.trial).cell for job in jobs}
    with open_folder(out, study, cells, tell) as done:
        todo = [job for job in jobs if job.trial_id not in done]
        tell(f"{study.name}: {len(jobs)} trials, {len(done)} already done, in {out}")
        append_event(out, "run", trials=len(jobs), reused=len(done))
        with watch(todo, done.values()) as on_event:
            carry_out(todo, out, executor, on_event)
        check_whole(out, cells)
    return todo


def carry_out(jobs: Sequence[Job], out: Path, executor: Executor, on_event: OnEvent) -> None:
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
