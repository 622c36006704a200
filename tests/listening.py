"""Running jobs as a command does, with a listener that remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from fewtune.cli.progress import pass_on
from fewtune.records import Failure, Record
from fewtune.running.executors.base import Executor
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.executors.process import STALL_SECONDS
from fewtune.running.job import Job, Progress, WorkerOptions
from fewtune.running.run_study import carry_out


class Listener:
    """Remembers what it was told."""

    def __init__(self, on_finished: Callable[[], None] = lambda: None) -> None:
        self.begun: list[Job] = []
        self.records: list[Record] = []
        self.progress: list[Progress] = []
        self._on_finished = on_finished

    def started(self, job: Job) -> None:
        self.begun.append(job)

    def progressed(self, job: Job, progress: Progress) -> None:
        self.progress.append(progress)

    def finished(self, job: Job, record: Record) -> None:
        self.records.append(record)
        self._on_finished()

    @property
    def failures(self) -> list[Failure]:
        return [record.failure for record in self.records if record.failure is not None]


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    listener: Listener | None = None,
    workers: int = 1,
    stall_after: float = STALL_SECONDS,
    executor: Executor | None = None,
) -> None:
    """Run jobs into a folder, in processes where no executor is given."""
    out.mkdir(parents=True, exist_ok=True)
    chosen = LocalProcesses(WorkerOptions(workers), stall_after) if executor is None else executor
    with closing(chosen):
        carry_out(jobs, out, chosen, partial(pass_on, Listener() if listener is None else listener))
