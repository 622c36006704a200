"""Teams of processes that run each trial together, each with a part of its networks (`engine.splitting`).

Owns starting those beside a worker, passing its jobs on to them, and that none outlives the others: a process that
fails alone would let the others wait for ever. They tell nothing: the worker does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from fewtune.running.executors.parent import watch_parent
from fewtune.running.executors.process import import_engine
from fewtune.running.job import Job, WorkerOptions
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState

LEFT_ALONE = 78
"""Exit status of a worker whose trial another process could not go on with."""
GRACE = 3.0
"""Seconds in which a worker may tell that its trial failed, where it failed in a process beside it too."""


@contextlib.contextmanager
def gather_team(options: WorkerOptions) -> Iterator[Callable[[Job], object]]:
    """Inside, this worker has as many processes beside it as a trial asks for; yields what passes a job on to them."""
    if options.devices_per_trial == 1:
        yield lambda job: None
        return
    from fewtune.engine import splitting

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="fewtune-") as folder:
        meeting, ranks = Path(folder) / "meeting", range(1, options.devices_per_trial)
        beside = [context.Process(target=_assist, args=(rank, options, meeting), daemon=True) for rank in ranks]
        for process in beside:
            process.start()
        threading.Thread(target=_end_with_any, args=(beside,), daemon=True).start()
        splitting.join(0, options.devices_per_trial, meeting)
        yield splitting.tell


def _end_with_any(beside: Sequence[SpawnProcess]) -> None:
    """End this worker soon after any process beside it has ended."""
    wait([process.sentinel for process in beside])
    time.sleep(GRACE)
    os._exit(LEFT_ALONE)


def _assist(rank: int, options: WorkerOptions, meeting: Path) -> None:
    """The life of a process beside a worker: it runs the same trials, until the worker ends or one fails."""
    watch_parent()
    from fewtune.engine import splitting

    splitting.join(rank, options.devices_per_trial, meeting)
    state = WorkerState(options)
    import_engine()
    while True:
        record, _ = run_trial(splitting.hear(), state)
        if record.status == "failed":
            assert record.failure is not None
            raise SystemExit(f"process {rank} of this trial failed: {record.failure.message}")
