"""Runs trials one after the other in the calling process, for notebooks, tests and debugging.

A trial that ends its process ends the study with it, and what trials leave behind in memory stays.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from fewtune.records import Record
from fewtune.running.job import Event, Finished, Job, Progress, Progressed, Started, WorkerOptions

if TYPE_CHECKING:
    from fewtune.running.worker import WorkerState


class InProcess:
    """Runs each job in this process, on all its cores."""

    runs_here = True

    def __init__(self, options: WorkerOptions | None = None) -> None:
        self.options = WorkerOptions() if options is None else options
        self._state: WorkerState | None = None

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        """Nothing is left open here."""

    def close(self) -> None:
        """Let go of the models that are kept from trial to trial."""
        self._state = None

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        """Run the jobs in order; what a trial told of its progress is passed on when it has ended."""
        from fewtune.running.trial import run_trial
        from fewtune.running.worker import WorkerState

        state = WorkerState(self.options) if self._state is None else self._state
        self._state = state
        for job in jobs:
            yield Started(job)
            told: list[Progress] = []
            record, predictions = run_trial(job, state, told.append)
            for progress in dict.fromkeys(told):
                yield Progressed(job, progress)
            yield Finished(job, record, predictions)
