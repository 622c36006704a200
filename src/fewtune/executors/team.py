"""Processes that run each trial together, every one with a part of its networks (`engine.splitting`).

Owns starting those beside a worker, and passing its jobs on to them. They tell nothing: the worker does.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fewtune.executors.process import end_with_parent, set_imports_apart
from fewtune.running.job import Job, WorkerOptions
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState


@contextmanager
def gather_team(options: WorkerOptions) -> Iterator[Callable[[Job], object]]:
    """Inside, this worker has as many processes beside it as a trial asks for; yields what passes a job on to them."""
    if options.devices_per_trial == 1:
        yield lambda job: None
        return
    from fewtune.engine import splitting

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="fewtune-") as folder:
        meeting = Path(folder) / "meeting"
        for rank in range(1, options.devices_per_trial):
            context.Process(target=_assist, args=(rank, options, meeting), daemon=True).start()
        splitting.join(0, options.devices_per_trial, meeting)
        try:
            yield splitting.tell
        finally:
            splitting.tell(None)
            splitting.leave()


def _assist(rank: int, options: WorkerOptions, meeting: Path) -> None:
    """The life of a process beside a worker: it runs the same trials, until the worker ends."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    from fewtune.engine import splitting

    splitting.join(rank, options.devices_per_trial, meeting)
    state = WorkerState(options)
    set_imports_apart()
    while (job := splitting.hear()) is not None:
        run_trial(job, state)
    splitting.leave()
