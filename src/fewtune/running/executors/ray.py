"""Runs trials in actors of a Ray cluster: a running one, or one of this machine alone.

Owns starting, feeding and replacing actors; the queue is the command's own. An actor that dies, of a kill, too little
memory or a node that left, costs the trial in its hands one of its attempts: another actor runs it again. Rows, and
models that lie in folders of this machine, travel through the object store; every other model is found by its name on
the node. What an actor knows it is sent: an actor may be gone at any moment.

Sources: https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from fewtune.errors import DataError, ExecutorError, FewtuneError, ModelError
from fewtune.models import find_model
from fewtune.models.folder_copy import pack_model
from fewtune.models.snapshot import lies_in_folder
from fewtune.records import Failure, Record
from fewtune.running.executors.process import STALL_SECONDS, WORKER_ENVIRONMENT, format_stall, harms_process
from fewtune.running.executors.ray_cluster import JoinedCluster
from fewtune.running.executors.trial_actor import TrialActor
from fewtune.running.job import Event, Finished, Job, Lost, Progress, Progressed, Started, WorkerOptions
from fewtune.running.prepare import load_task
from fewtune.running.trial_metadata import failed_record
from fewtune.running.worker_count import find_wanted_memory
from fewtune.study import Resources

MOST_ATTEMPTS = 3
"""Actors that a trial may end with it before it is told as lost."""
MOST_STARTS = 5
"""Actors in a row that may end before they run at all."""
HEAR_SECONDS = 1.0
"""Seconds between two looks at how a trial stands."""
LONGEST_DELAY = 30.0
"""By how many seconds more a look takes where the command was not stopped."""
NO_ROOM_SECONDS = 600.0
"""Seconds without any actor after which a cluster is taken to have no room for one."""


@dataclass
class _Actor:
    """An actor as its driver sees it."""

    handle: Any
    ready: Any
    """What it answers once it runs; None when it has."""
    job: Job | None = None
    answer: Any = None
    """What its trial comes to."""
    look: Any = None
    """A question of how its trial stands that is not answered yet."""
    progress: Progress | None = None
    trials: int = 0
    """Trials that it has ended."""
    heard: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        return self.ready is None and self.job is None

    def list_awaited(self) -> list[Any]:
        return [each for each in (self.ready, self.answer, self.look) if each is not None]


class RayActors:
    """Runs jobs in actors of a Ray cluster; each has the cores, GPUs and memory that the study says a trial takes."""

    runs_here = False

    def __init__(
        self,
        options: WorkerOptions | None = None,
        resources: Resources | None = None,
        address: str | None = None,
        stall_after: float = STALL_SECONDS,
        *,
        auto: bool = True,
    ) -> None:
        """`address` is a cluster's; None: the one that RAY_ADDRESS names, else this machine's, which is
        started where none runs.

        With `auto` there are as many actors as the cluster has room for, now and as nodes come and go; else as many as
        `options` says.
        """
        self._resources = Resources() if resources is None else resources
        asked = WorkerOptions() if options is None else options
        self.options = replace(asked, threads=max(1, int(self._resources.cpus)))
        self._address = address
        self._stall_after = stall_after
        self._auto = auto
        self._team: list[_Actor] = []
        self._joined: JoinedCluster | None = None
        self._ours = False
        """Whether the connection to the cluster is this executor's own to end."""
        self._carried: dict[str, Any] = {}
        """Rows and models in the object store, by what they are."""
        self._memory = self._resources.memory or 0
        self._settled = False
        self._places: list[int] = []
        """Trials that each node had room for when the cluster was asked last."""
        self._failed_starts = 0
        """Actors in a row that ended before they ran."""

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        """Join the cluster, and ask it how many trials it has room for."""
        self._connect()
        if not self._memory:
            self._memory = find_wanted_memory(jobs)
        if self._auto and not self._settled:
            self.options = replace(self.options, workers=max(1, sum(self._list_places())))
        self._settled = True

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        """Run every job; one whose actors died so often, or that told nothing for `stall_after` seconds, is lost."""
        import ray
        from ray.exceptions import RayError

        self._connect()
        source, attempts, waiting = iter(jobs), Counter[str](), deque[Job]()
        places, looked, had_room = 0, 0.0, time.monotonic()
        passed = time.monotonic()
        try:
            while True:
                stood = time.monotonic() - passed - HEAR_SECONDS
                if stood > min(LONGEST_DELAY, self._stall_after / 2):  # this command did: nobody was asked meanwhile
                    for actor in self._team:
                        actor.heard += stood
                passed = time.monotonic()
                if time.monotonic() - looked >= HEAR_SECONDS:
                    places = max(1, sum(self._list_places())) if self._auto else self.options.workers
                    self._cluster.check_node()
                    self._look_around()
                    looked = time.monotonic()
                free = max(0, places - sum(actor.job is not None for actor in self._team))
                waiting.extend(itertools.islice(source, max(0, free - len(waiting))))
                for actor in [actor for actor in self._team if actor.is_idle]:
                    if waiting and free:
                        yield self._hand_over(actor, waiting.popleft())
                        free -= 1
                coming = sum(actor.ready is not None for actor in self._team)
                self._team += [self._start() for _ in range(min(free, len(waiting)) - coming)]
                if not waiting and all(actor.job is None for actor in self._team):
                    return
                awaited = [each for actor in self._team for each in actor.list_awaited()]
                if ray.wait(awaited, timeout=HEAR_SECONDS)[0]:
                    ready = set(ray.wait(awaited, num_returns=len(awaited), timeout=0)[0])
                else:
                    ready = set()
                for actor in list(self._team):
                    yield from self._listen(actor, ready, waiting, attempts)
                if any(actor.ready is None for actor in self._team):
                    had_room = time.monotonic()
                elif time.monotonic() - had_room > NO_ROOM_SECONDS:
                    raise ExecutorError(self._format_no_room())
        except RayError as error:  # of the cluster itself: those of an actor cost a trial an attempt
            raise ExecutorError(f"the Ray cluster does not go on: {_word(error)}") from error
        finally:
            for actor in [actor for actor in self._team if actor.job is not None or actor.ready is not None]:
                self._end(actor)

    def close(self) -> None:
        """End the actors that wait for jobs, and leave the cluster."""
        import ray

        for actor in list(self._team):
            self._end(actor)
        self._carried.clear()
        if self._joined is not None:
            self._joined.leave()
        self._joined = None
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        # Ray puts a handler of its own where the command has one that tells of the end and writes it down.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=self._address,
                log_to_driver=False,
                include_dashboard=False if self._address is None else None,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"the Ray cluster at {self._address}" if self._address else "a Ray cluster"
            raise FewtuneError(f"{where} cannot be reached: {' '.join(str(error).split())}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        self._ours = True

    def _list_places(self) -> list[int]:
        """Trials that each of the cluster's nodes has room for."""
        import ray

        wanted = {"CPU": self._resources.cpus, "GPU": self._resources.gpus, "memory": float(self._memory)}
        with contextlib.suppress(ray.exceptions.RayError):  # the head went away as it was asked
            has = [node["Resources"] for node in self._cluster.list_nodes()]
            self._places = [min(int(each.get(name, 0.0) / by) for name, by in wanted.items() if by) for each in has]
        return self._places

    @property
    def _cluster(self) -> JoinedCluster:
        if self._joined is None:
            self._joined = JoinedCluster()
        return self._joined

    def _format_no_room(self) -> str:
        resources = self._resources
        asked = f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs and {self._memory / 2**30:.1f} GiB of memory"
        return (
            f"the Ray cluster has had no room for a trial for {NO_ROOM_SECONDS / 60:.0f} minutes: each asks for "
            f"{asked} of one node. Ask for less with the study's `resources`, or add a node."
        )

    def _start(self) -> _Actor:
        import ray

        environment = {name: os.environ.get(name, value) for name, value in WORKER_ENVIRONMENT.items()}
        environment["OMP_NUM_THREADS"] = str(self.options.threads)
        if not self._resources.gpus:  # Ray leaves a GPU to be seen by whoever asked for none
            environment["CUDA_VISIBLE_DEVICES"] = ""
        together = max(self._list_places(), default=1)
        made: Any = ray.remote(TrialActor)
        handle = made.options(
            num_cpus=self._resources.cpus,
            num_gpus=self._resources.gpus,
            memory=self._memory,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one runs a trial while the other tells how it stands
            runtime_env={"env_vars": environment},
        ).remote(replace(self.options, workers=max(1, together)))
        return _Actor(handle, handle.name_version.remote())

    def _hand_over(self, actor: _Actor, job: Job) -> Started:
        actor.job, actor.progress, actor.heard = job, None, time.monotonic()
        actor.answer = actor.handle.run.remote(job, self._carry_rows(job), self._carry_models(job))
        return Started(job)

    def _carry_rows(self, job: Job) -> list[Any]:
        """The job's rows in the object store; boxed, so that an actor takes them only if it lacks them."""
        if job.rows_key not in self._carried:
            with contextlib.suppress(DataError):  # the trial finds the same, and its record tells of it
                self._carried[job.rows_key] = self._put(load_task(job.trial.task, self.options.data_dir))
        return [self._carried[job.rows_key]] if job.rows_key in self._carried else []

    def _carry_models(self, job: Job) -> dict[str, Any]:
        """Those of the job's models that lie in folders of this machine, in the object store, by name."""
        carried = {}
        for name, fingerprint in job.weights.items():
            if fingerprint not in self._carried:
                self._carried[fingerprint] = None
                with contextlib.suppress(ModelError):  # likewise
                    files = pack_model(find_model(name)) if lies_in_folder(name) else None
                    self._carried[fingerprint] = None if files is None else self._put(files)
            if self._carried[fingerprint] is not None:
                carried[name] = self._carried[fingerprint]
        return carried

    def _put(self, value: Any) -> Any:
        import ray

        self._cluster.check_node()
        return ray.put(value)

    def _look_around(self) -> None:
        """Ask every actor at work how its trial stands."""
        for actor in self._team:
            if actor.job is not None and actor.look is None:
                actor.look = actor.handle.stand.remote()

    def _listen(self, actor: _Actor, ready: set[Any], waiting: deque[Job], attempts: Counter[str]) -> Iterator[Event]:
        """What an actor tells now, of what is ready; it leaves the team where it is gone or of no more use."""
        import ray
        from ray.exceptions import RayError

        job = actor.job
        try:
            if actor.ready is not None and actor.ready in ready:
                _check_version(ray.get(actor.ready))
                actor.ready, self._failed_starts = None, 0
            if actor.answer in ready:
                self._cluster.check_node()
            answered = ray.get(actor.answer) if actor.answer in ready and job is not None else None
            if actor.look in ready and job is not None:
                with contextlib.suppress(RayError) if answered is not None else contextlib.nullcontext():
                    told, actor.look = ray.get(actor.look), None
                    if told:
                        actor.progress, actor.heard = told[-1], time.monotonic()
                    for progress in told:
                        yield Progressed(job, progress)
            if answered is not None and job is not None:
                message, told = answered
                actor.job = actor.answer = actor.look = None
                actor.trials += 1
                for progress in told:
                    yield Progressed(job, progress)
                if isinstance(message, Failure):
                    message = failed_record(job, message, None, self.options), None
                record, predictions = message
                if harms_process(record.failure):
                    self._end(actor)
                yield Finished(job, record, predictions)
        except RayError as error:
            self._end(actor)
            if job is None:
                self._failed_starts += 1
                if self._failed_starts >= MOST_STARTS:
                    raise ExecutorError(f"{MOST_STARTS} actors in a row could not start: {_word(error)}.") from error
                return
            if actor.trials and actor.progress is None:
                waiting.appendleft(job)  # it died of an earlier trial, before it began this one
                return
            attempts[job.trial_id] += 1
            if attempts[job.trial_id] < MOST_ATTEMPTS:
                waiting.appendleft(job)
                return
            yield Lost(job, f"{MOST_ATTEMPTS} actors that ran this trial ended with it; the last: {_word(error)}")
            return
        silent = time.monotonic() - actor.heard
        if actor.job is not None and silent > self._stall_after:
            self._end(actor)
            yield Lost(actor.job, format_stall(silent, actor.progress))

    def _end(self, actor: _Actor) -> None:
        """End an actor at once, whatever it does, and know it no longer."""
        import ray

        with contextlib.suppress(Exception):  # it, or the whole cluster, may be gone
            ray.kill(actor.handle, no_restart=True)
        if actor in self._team:
            self._team.remove(actor)


def _check_version(there: str) -> None:
    here = version("fewtune")
    if there != here:
        raise ExecutorError(f"a node has fewtune {there}, and the command that asks {here}: install one version.")


def _word(error: Exception) -> str:
    """What Ray says of an end: its first line, and the exception that its traces end with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    ends = lines[-1:] if re.match(r"[\w.]+(Error|Exception|Exit)\b", lines[-1]) else []
    return " ".join(dict.fromkeys([lines[0], *ends]))[:500]
