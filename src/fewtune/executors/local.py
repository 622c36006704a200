"""Trials in processes of this machine: one worker by default, each trial apart from the command that asked.

Owns starting, feeding and replacing worker processes, and writing what they return. A worker that dies, or tells of
no progress for too long, costs its trial alone: the trial is recorded as failed and a new worker goes on. One that ran
out of memory, or has worked for minutes, makes way for a fresh one.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fewtune.causes import find_failure_kind
from fewtune.errors import RecordError
from fewtune.folder import Presence
from fewtune.interruption import held_back, name_signal
from fewtune.prepare import Job
from fewtune.records import Failure, Record, RecordFiles, append_event, encode_record, write_files
from fewtune.run import Bench, Progress, failed_record, run_trial

if TYPE_CHECKING:
    import polars as pl

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


STALL_SECONDS = 1800.0
"""Seconds without a sign of progress after which a worker is ended, where nothing else is asked. Workers tell of every
step, and of every layer that a network ran (`engine.pulse`), so that a trial may take far longer."""

LONGEST_END = 10.0
"""Seconds to wait for a worker that was killed: one that hangs in the system itself, on a dead disk, may not end."""


class Listener(Protocol):
    """Who is told how the study goes."""

    def started(self, job: Job) -> None: ...
    def progressed(self, job: Job, progress: Progress) -> None: ...
    def finished(self, job: Job, record: Record) -> None: ...


@dataclass(frozen=True)
class Finished:
    """What a worker sends when a trial has ended: its record, and its files for the folder, which it does not know."""

    record: Record
    files: RecordFiles


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    progress: Progress | None = None
    """The last that was heard of its job."""
    done: int = 0
    """Trials it has ended."""
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)


def run_jobs(
    jobs: Sequence[Job], out: Path, listener: Listener, workers: int = 1, stall_after: float = STALL_SECONDS
) -> None:
    """Run every job and write its record; a signal (KeyboardInterrupt) stops the workers and is raised again.

    Each record is written whole before the next job starts, so an interrupted study loses the running trials only.
    A worker without a sign of progress for `stall_after` seconds is ended, its trial recorded as `killed`. Raises
    RecordError where records cannot be written: the folder is gone, or the disk full.
    """
    context = multiprocessing.get_context("spawn")
    out.mkdir(parents=True, exist_ok=True)
    office = _Office(out, listener)
    waiting = list(reversed(jobs))
    team: list[_Worker] = []
    try:
        while waiting or any(w.job for w in team):
            for worker in [worker for worker in team if worker.job is None]:
                if not waiting or time.monotonic() - worker.started > REPLACE_AFTER_SECONDS:
                    _stop(worker)
                    team.remove(worker)
                elif not _hand_over(worker, waiting, office):
                    team.remove(worker)
            # A worker is started where there is a trial for it: starting disturbs those that are timed.
            while waiting and len(team) < workers:
                worker = _start_worker(context)
                if _hand_over(worker, waiting, office):
                    team.append(worker)
            ready = wait([w.pipe for w in team], timeout=1.0)
            office.presence.check()
            for worker in list(team):
                heard = worker.pipe in ready
                stays = _listen(worker, waiting, office) if heard else _keep_waiting(worker, office, stall_after)
                if not stays:
                    team.remove(worker)
    except KeyboardInterrupt:
        with contextlib.suppress(RecordError):  # the signal ends the run, whether or not it can be written down
            office.tell("interrupted")
        raise
    finally:
        for worker in team:
            _end(worker)


class _Office:
    """Where what workers report is written down and passed on: the one writer of the folder."""

    def __init__(self, out: Path, listener: Listener) -> None:
        self.presence = Presence(out)
        self.listener = listener
        self._out = out

    def start(self, job: Job) -> None:
        self.tell("started", trial_id=job.trial_id)
        self.listener.started(job)

    def finish(self, job: Job, finished: Finished) -> None:
        with self._writing():
            write_files(self._out, finished.files)
        self.tell("finished", trial_id=job.trial_id, status=finished.record.status)
        self.listener.finished(job, finished.record)

    def lose(self, job: Job, message: str) -> None:
        """Record a trial whose process ended, or was ended, before it was done."""
        record = failed_record(job, Failure(kind="killed", message=message), None)
        self.finish(job, encode(job, record, None))

    def tell(self, event: str, **values: str) -> None:
        with self._writing():
            append_event(self._out, event, **values)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self.presence.check()
        try:
            yield
        except OSError as error:
            self.presence.check()
            raise RecordError(
                f"{error.filename}: {error.strerror}. The run stops, for its records cannot be written. Finished "
                f"trials are kept in {self._out}: mend this, and the same command goes on from there."
            ) from error


def _hand_over(worker: _Worker, waiting: list[Job], office: _Office) -> bool:
    """Give a worker the next job; False where it died before it could take one, and the job still waits."""
    job = waiting[-1]
    try:
        worker.pipe.send(job)
    except OSError:
        worker.process.join()
        return False
    worker.job, worker.progress, worker.heard = waiting.pop(), None, time.monotonic()
    office.start(job)
    return True


def _listen(worker: _Worker, waiting: list[Job], office: _Office) -> bool:
    """Take one message of a worker; False where it is there no longer."""
    job = worker.job
    try:
        message: Any = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        if job is not None and worker.done and worker.progress is None:
            waiting.append(job)  # it died of an earlier trial, before it began this one
        elif job is not None:
            office.lose(job, f"the process that ran this trial ended by {_word_end(worker.process.exitcode)}")
        return False
    worker.heard = time.monotonic()
    if job is None:
        return True
    if isinstance(message, Progress):
        worker.progress = message
        office.listener.progressed(job, message)
        return True
    worker.job, worker.done = None, worker.done + 1
    office.finish(job, message)
    failure = message.record.failure
    if failure is not None and failure.kind == "out_of_memory":
        # What could not be allocated is half set up in the libraries: later trials would fail by it.
        _end(worker)
        return False
    return True


def _keep_waiting(worker: _Worker, office: _Office, stall_after: float) -> bool:
    """Whether a worker that told nothing now may go on; one without progress for too long is ended, and False."""
    silent = time.monotonic() - worker.heard
    if worker.job is None or silent <= stall_after:
        return True
    _end(worker)
    last = worker.progress
    at = f" at step {last.step} of {last.steps}" if last is not None and last.steps else ""
    phase = f"{last.phase}{at}" if last is not None else "starting"
    office.lose(
        worker.job,
        f"no progress for {silent:.0f} seconds ({phase}), so the process that ran this trial was ended. "
        "Where such a pause is no fault, allow longer ones: --stall-after SECONDS.",
    )
    return False


def _word_end(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}."
    hint = " The system may have run out of memory." if exit_code == -signal.SIGKILL else ""
    name = name_signal(-exit_code)
    return f"{name if name.startswith('signal') else f'signal {name}'}.{hint}"


def _start_worker(context: Any) -> _Worker:
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Signals reach every process of the terminal or of the scheduler's job: the command alone decides what they mean.
    resource_tracker.ensure_running()  # starting it would let signals through again
    with held_back():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _stop(worker: _Worker) -> None:
    """Let an idle worker end, without waiting for it."""
    with contextlib.suppress(OSError):  # it died by itself
        worker.pipe.send(None)


def _end(worker: _Worker) -> None:
    """End a worker at once, whatever it does."""
    worker.process.kill()
    worker.process.join(LONGEST_END)


def _work(pipe: Connection) -> None:
    """The life of a worker: take a job, run it, send its record; it writes nothing itself."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    bench = Bench()
    _set_imports_apart()
    while (job := pipe.recv()) is not None:
        pipe.send(encode(job, *run_trial(job, bench, pipe.send)))


def encode(job: Job, record: Record, predictions: pl.DataFrame | None) -> Finished:
    """A trial's end as it is sent and written; where its record cannot be, a failed one says why."""
    try:
        return Finished(record, encode_record(record, predictions))
    except Exception as error:  # whatever a method noted: it costs this trial, not the worker
        why = f"what came of this trial cannot be written as a record: {type(error).__name__}: {error}"
        failure = Failure(kind=find_failure_kind(error), message=" ".join(why.split()), trace=traceback.format_exc())
        failed = failed_record(job, failure, record.started_at)
        # Names of the study may be what cannot be written.
        failed = Record.model_validate(_replace_surrogates(failed.model_dump()))
        return Finished(failed, encode_record(failed))


def _replace_surrogates(value: Any) -> Any:
    """A value with a question mark for every half of a character, which no file in UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_replace_surrogates(key): _replace_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_surrogates(each) for each in value]
    return value


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
