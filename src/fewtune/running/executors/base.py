"""The protocol of an executor: it takes jobs and yields events.

Owns the protocol. An executor writes no record and knows no folder: `fewtune.running.run_study`
writes them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

from fewtune.records import Record
from fewtune.running.job import Event, Job, WorkerOptions


class Executor(Protocol):
    """Runs jobs, wherever that is."""

    options: WorkerOptions
    """How its processes run trials; records tell it."""
    runs_here: bool
    """Whether trials run on this machine alone."""

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        """Settle what was left to it, such as how many processes run, before it runs any of these jobs.

        `known` are records of the study that are at hand. Told again, it stays with what it has.
        """

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        """Run every job once; each is told as started, then finished or lost, with signs of progress between.

        A job is taken from `jobs` when it could start, no sooner; jobs may be told of in any order. Whoever stops
        listening closes the iterator, which ends what still runs.
        """
        ...

    def close(self) -> None:
        """Let go of what is kept from one run to the next, such as workers that wait; it may run jobs again."""
