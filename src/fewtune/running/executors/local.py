"""Runs trials in worker processes of this machine, one by default, apart from the calling process.

Owns starting, feeding and replacing worker processes. A worker that dies, or tells of no progress for too long, costs
its trial alone: the trial is lost and a new worker goes on. One that ran out of memory makes way for a fresh one.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from fewtune.records import Failure, Record
from fewtune.running.executors.parent import STARVED, begin_worker
from fewtune.running.executors.process import (
    STALL_SECONDS,
    WORKER_ENVIRONMENT,
    describe_failure,
    format_stall,
    harms_process,
    set_up_for,
)
from fewtune.running.executors.team import LEFT_ALONE, gather_team
from fewtune.running.job import Event, Finished, Job, Lost, Progress, Progressed, Started, WorkerOptions
from fewtune.running.trial import run_trial
from fewtune.running.trial_metadata import count_threads, failed_record
from fewtune.running.worker import WorkerState
from fewtune.running.worker_count import choose_workers
from fewtune.system.processes import no_main
from fewtune.system.processor import list_gpus
from fewtune.system.signals import held_back, name_signal

WAIT, LONGEST_DELAY = 1.0, 30.0
"""Seconds that workers are listened to at a time, and by how many more this takes where the command was not stopped."""
LONGEST_END = 10.0
"""Seconds to wait for a worker that was killed: one that hangs in the system itself, on a dead disk, may not end."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    progress: Progress | None = None
    """The last that was heard of its job."""
    done: int = 0
    """Trials it has ended."""
    heard: float = field(default_factory=time.monotonic)
    gpu: str | None = None
    """The one that it sees, where there are several."""

    @property
    def busy_with(self) -> Job:
        """Its job, where it was just handed one."""
        assert self.job is not None
        return self.job


class LocalProcesses:
    """Runs jobs in worker processes; each worker has its share of the cores."""

    runs_here = True

    def __init__(
        self, options: WorkerOptions | None = None, stall_after: float = STALL_SECONDS, *, auto: bool = False
    ) -> None:
        """With `auto` the number of workers is what suits the first jobs that it is told of (`settle`)."""
        self.options = WorkerOptions() if options is None else options
        self._stall_after = stall_after
        self._auto = auto
        self._team: list[_Worker] = []
        """Workers that live: those without a job wait for the next one, of a later run too."""

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        """Choose the number of workers, once, where that was left open."""
        if self._auto:
            self.options, self._auto = replace(self.options, workers=choose_workers(jobs, known)), False

    def close(self) -> None:
        """End the workers that wait for jobs."""
        for worker in self._team:
            _stop(worker)
        self._team.clear()

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        """Run every job; a worker without a sign of progress for `stall_after` seconds is ended, and its job lost."""
        context = multiprocessing.get_context("spawn")
        source = iter(jobs)
        waiting: list[Job] = []

        def some_wait() -> bool:
            if not waiting:
                waiting.extend(itertools.islice(source, 1))
            return bool(waiting)

        team = self._team
        try:
            while any(w.job for w in team) or some_wait():
                for worker in [worker for worker in team if worker.job is None]:
                    if not some_wait():
                        continue
                    elif not _hand_over(worker, waiting):
                        team.remove(worker)
                    else:
                        yield Started(worker.busy_with)
                # A worker is started where there is a trial for it: starting disturbs those that are timed.
                while len(team) < self.options.workers and some_wait():
                    worker = _start_worker(context, self.options, [each.gpu for each in team])
                    if _hand_over(worker, waiting):
                        team.append(worker)
                        yield Started(worker.busy_with)
                began = time.monotonic()
                ready = wait([w.pipe for w in team], timeout=WAIT)
                slept = time.monotonic() - began - WAIT
                if slept > min(
                    LONGEST_DELAY, self._stall_after / 2
                ):  # this command was stopped, and its workers with it: none of them was silent
                    for worker in team:
                        worker.heard += slept
                for worker in list(team):
                    if worker.pipe in ready:
                        event, stays = _listen(worker, waiting, self.options)
                    else:
                        event, stays = _check_stall(worker, self._stall_after)
                    if not stays:
                        team.remove(worker)
                    if event is not None:
                        yield event
        finally:
            for worker in [worker for worker in team if worker.job is not None]:
                _end(worker)
                team.remove(worker)


def _hand_over(worker: _Worker, waiting: list[Job]) -> bool:
    """Give a worker the next job; False where it died before it could take one, and the job still waits."""
    job = waiting[-1]
    try:
        worker.pipe.send(job)
    except OSError:
        worker.process.join()
        return False
    worker.job, worker.progress, worker.heard = waiting.pop(), None, time.monotonic()
    return True


def _listen(worker: _Worker, waiting: list[Job], options: WorkerOptions) -> tuple[Event | None, bool]:
    """Take one message of a worker: what it tells, and whether the worker is there still."""
    job = worker.job
    try:
        message: Any = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        if job is None:
            return None, False
        if worker.done and worker.progress is None:
            waiting.append(job)  # it died of an earlier trial, before it began this one
            return None, False
        return Lost(job, f"the process that ran this trial ended by {_format_end(worker.process.exitcode)}"), False
    worker.heard = time.monotonic()
    if job is None:
        return None, True
    if isinstance(message, Progress):
        worker.progress = message
        return Progressed(job, message), True
    worker.job, worker.done = None, worker.done + 1
    made = (failed_record(job, message, None, options), None) if isinstance(message, Failure) else message
    record, predictions = made
    failed = record.status == "failed"
    if harms_process(record.failure) or (failed and options.devices_per_trial > 1):
        # A trial that failed may go on in the processes beside this one.
        _end(worker)
        return Finished(job, record, predictions), False
    return Finished(job, record, predictions), True


def _check_stall(worker: _Worker, stall_after: float) -> tuple[Lost | None, bool]:
    """Whether a worker that told nothing now may go on; one without progress for too long is ended, its job lost."""
    silent = time.monotonic() - worker.heard
    if worker.job is None or silent <= stall_after or worker.pipe.poll():  # it spoke while this command stood still
        return None, True
    _end(worker)
    return Lost(worker.job, format_stall(silent, worker.progress)), False


def _format_end(exit_code: int | None) -> str:
    if exit_code == STARVED:
        return "running out of memory, before it could tell more."
    if exit_code == LEFT_ALONE:
        return "a process beside it ending, whose reason stands in the command's output."
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}."
    hint = " The system may have run out of memory." if exit_code == -signal.SIGKILL else ""
    name = name_signal(-exit_code)
    return f"{name if name.startswith('signal') else f'signal {name}'}.{hint}"


def _start_worker(context: Any, options: WorkerOptions, taken: Sequence[str | None] = ()) -> _Worker:
    """Start a process, on the GPU that the fewest others have `taken` where there are several."""
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ours, theirs = context.Pipe()
    process = context.Process(target=begin_worker, args=(theirs,), daemon=options.devices_per_trial == 1)
    # Signals reach every process of the terminal or of the scheduler's job: the command alone decides what they mean.
    resource_tracker.ensure_running()  # starting it would let signals through again
    gpus = list_gpus() if options.devices_per_trial == 1 else []
    gpu = min(gpus, key=taken.count) if len(gpus) > 1 else None
    with held_back(), no_main(), _as_many_threads(count_threads(options)), _on_gpu(gpu):
        process.start()
    theirs.close()
    with contextlib.suppress(OSError):  # it died at once: whoever hands it a job finds out
        ours.send((_work, options))
    return _Worker(process, ours, gpu=gpu)


@contextlib.contextmanager
def _as_many_threads(threads: int) -> Iterator[None]:
    """Let the libraries of a process that starts here use so many threads, unless its user says how many.

    PyTorch is told at each trial; what NumPy and scikit-learn run on would take every core in each of several workers.
    """
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(threads)
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _on_gpu(gpu: str | None) -> Iterator[None]:
    """Let a process that starts here see this GPU alone; None: what its user lets it see."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    try:
        if gpu is not None:
            os.environ[name] = gpu
        yield
    finally:
        if gpu is not None:
            del os.environ[name]
            os.environ.update({} if before is None else {name: before})


def _stop(worker: _Worker) -> None:
    """Let an idle worker end, without waiting for it."""
    with contextlib.suppress(OSError):  # it died by itself
        worker.pipe.send(None)


def _end(worker: _Worker) -> None:
    """End a worker at once, whatever it does."""
    worker.process.kill()
    worker.process.join(LONGEST_END)


def _work(pipe: Connection, options: WorkerOptions) -> None:
    """Run a worker's process, until it is told to end or the command that started it is gone."""
    try:
        _take_jobs(pipe, options)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        os._exit(1)  # the command that started it is gone: nobody is left to tell


def _take_jobs(pipe: Connection, options: WorkerOptions) -> None:
    """The life of a worker: take a job, run it, send what came of it; it writes nothing itself."""
    with contextlib.ExitStack() as team:
        state, pass_on = WorkerState(options), None
        while (job := pipe.recv()) is not None:
            try:
                pass_on = pass_on or team.enter_context(gather_team(options))
                set_up_for(job)
            except Exception as error:  # a finding about this trial; libraries half imported serve no other
                pipe.send(describe_failure(error, "the process for this trial could not start: "))
                return
            pass_on(job)
            try:
                ended: Any = run_trial(job, state, pipe.send)
            except Exception as error:  # too little is left to make a record of a failure: the command makes it
                ended = describe_failure(error)
            pipe.send(ended)
    if options.devices_per_trial > 1:
        os._exit(0)  # those beside it wait for what it says next, and end with it
