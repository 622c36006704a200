"""Trials in processes of this machine: one worker by default, each trial apart from the command that asked.

Owns starting, feeding and replacing worker processes, and writing what they return. A worker that dies (killed,
out of memory) costs its trial alone: the trial is recorded as failed and a new worker goes on; one that has worked
for minutes makes way for a fresh one.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from fewtune.prepare import Job
from fewtune.records import Failure, Record, append_event, load_record, record_path, write_record
from fewtune.run import Bench, Progress, failed_record, run_trial

WORKER_ENVIRONMENT = {
    # OpenMP threads that wait by spinning starve each other as soon as the cores are shared with anything else: by
    # default two fits at once hardly move. Looking again so often before it sleeps, a thread seldom sleeps within a
    # step, and two fits at once are slower than one after the other, but end (benchmarks/shared_cores.py).
    "GOMP_SPINCOUNT": "10000",
    # Gradients of hundreds of megabytes come and go at every step: given back to the system, they would be cleared anew
    # each time. What is freed stays with the process, for its later trials too.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    # Large pages: walking through hundreds of megabytes of weights misses the address cache less often.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # oneDNN keeps what it prepared for each shape of a product, up to half a megabyte. A step's shapes, which blocks
    # share, are some dozens; another step's are others, and of its usual thousand most would only take memory.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}
"""What the libraries of a worker read as it starts, unless the user's environment says otherwise."""

REPLACE_AFTER_SECONDS = 300.0
"""How long a worker lives before another takes its place, between two trials. What it keeps falls into ever more
pieces, and finding memory among them slows scoring down (docs/log.md); starting takes a few seconds."""


class Listener(Protocol):
    """Who is told how the study goes."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, progress: Progress) -> None: ...
    def finished(self, job: Job, record: Record) -> None: ...


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    started: float = field(default_factory=time.monotonic)


def run_jobs(jobs: Sequence[Job], out: Path, listener: Listener, workers: int = 1) -> None:
    """Run every job and write its record; Ctrl-C stops the workers and is raised again.

    Each record is written whole before the next job starts, so an interrupted study loses the running trials only.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(jobs))
    team: list[_Worker] = []
    try:
        while waiting or any(w.job for w in team):
            for worker in [worker for worker in team if worker.job is None]:
                if not waiting or time.monotonic() - worker.started > REPLACE_AFTER_SECONDS:
                    _stop(worker)
                    team.remove(worker)
                elif not _hand_over(worker, waiting, out, listener):
                    team.remove(worker)
            # A worker is started where there is a trial for it: starting disturbs those that are timed.
            while waiting and len(team) < workers:
                worker = _start_worker(context, out)
                if _hand_over(worker, waiting, out, listener):
                    team.append(worker)
            ready = wait([w.pipe for w in team], timeout=1.0)
            for worker in list(team):
                if worker.pipe in ready and not _listen(worker, out, listener):
                    team.remove(worker)
    except KeyboardInterrupt:
        append_event(out, "interrupted")
        raise
    finally:
        for worker in team:
            worker.process.kill()
            worker.process.join()


def _hand_over(worker: _Worker, waiting: list[Job], out: Path, listener: Listener) -> bool:
    """Give a worker the next job; False where it died before it could take one, and the job still waits."""
    job = waiting[-1]
    try:
        worker.pipe.send(job)
    except OSError:
        worker.process.join()
        return False
    worker.job = waiting.pop()
    listener.started(job)
    append_event(out, "started", trial_id=job.trial_id)
    return True


def _listen(worker: _Worker, out: Path, listener: Listener) -> bool:
    """Take one message of a worker; False where it died."""
    job = worker.job
    try:
        message: Any = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        if job is not None:
            record = _find_finished(out, job)
            if record is None:
                code = worker.process.exitcode
                how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
                hint = " The system may have run out of memory." if code == -signal.SIGKILL else ""
                failure = Failure(kind="killed", message=f"the process that ran this trial ended by {how}.{hint}")
                record = failed_record(job, failure, None)
                write_record(out, record)
            _tell_finished(out, listener, job, record)
        return False
    if job is None:
        return True
    if isinstance(message, Progress):
        listener.progressed(job, message)
    else:
        worker.job = None
        _tell_finished(out, listener, job, message)
    return True


def _find_finished(out: Path, job: Job) -> Record | None:
    """The record of a job that was done before its worker died; trials that are done do not run again."""
    path = record_path(out, job.trial_id)
    record = load_record(path) if path.is_file() else None
    return record if record is not None and record.status == "done" else None


def _tell_finished(out: Path, listener: Listener, job: Job, record: Record) -> None:
    append_event(out, "finished", trial_id=job.trial_id, status=record.status)
    listener.finished(job, record)


def _start_worker(context: Any, out: Path) -> _Worker:
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, out), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _stop(worker: _Worker) -> None:
    """Let an idle worker end, without waiting for it."""
    with contextlib.suppress(OSError):  # it died by itself
        worker.pipe.send(None)


def _work(pipe: Connection, out: Path) -> None:
    """The life of a worker: take a job, run it, write its record, say so."""
    # Ctrl-C reaches every process of the terminal; the command alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    bench = Bench()
    _set_imports_apart()
    while (job := pipe.recv()) is not None:
        record, predictions = run_trial(job, bench, pipe.send)
        write_record(out, record, predictions)
        pipe.send(record)


def _set_imports_apart() -> None:
    """Import what trials import, and keep it out of every later garbage collection.

    Each trial collects twice, and looking through half a million objects of libraries takes a quarter of a second
    each time; collecting while they are imported, a fifth of the whole import. Called before any model is loaded:
    models must stay collectable.
    """
    gc.disable()
    import sklearn.linear_model  # noqa: F401

    import fewtune.methods.teacher  # noqa: F401 - imports the engine and all that trains

    gc.collect()
    gc.freeze()
    gc.enable()


def _end_with_parent() -> None:
    """End this worker at once when the command that started it is gone, so that it neither runs on nor records."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
