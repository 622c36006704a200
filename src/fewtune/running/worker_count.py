"""Chooses how many processes run a study's trials (`--workers auto`).

Owns the choice. Processes of one thread each end more trials than one of several (benchmarks/results/workers.json): a
small model's products are too short to be shared. All costs of a study are to come from one setting: a folder that
holds records of this machine goes on with the number that they had, if memory still has room for it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fewtune.records import Record
from fewtune.running.job import Job
from fewtune.system.control_group import read_memory
from fewtune.system.processor import list_gpus, name_processor, usable_cores

_BYTES_PER_PARAMETER = 18
"""Of a fit of all weights: master weights, gradients and two moments of 32 bits, and a copy of 16."""
_LIBRARIES = 2 * 2**30
"""Bytes that a process holds besides: libraries, a teacher, what a step leaves for the next, results."""


def choose_workers(jobs: Sequence[Job], known: Iterable[Record] = ()) -> int:
    """The processes that these jobs run in: one a core, as far as memory and trials go, or one a GPU."""
    machine = {"processor": name_processor(), "cores": usable_cores()}
    had = Counter[int](
        workers
        for record in known
        if record.status == "done" and machine.items() <= record.environment.items()
        if isinstance(workers := record.environment.get("workers"), int)
    )
    most = had.most_common(1)[0][0] if had else min(len(list_gpus()) if _has_gpu() else usable_cores(), len(jobs))
    return 1 if most <= 1 else max(1, min(most, find_free_memory() // find_wanted_memory(jobs)))


def find_wanted_memory(jobs: Iterable[Job]) -> int:
    """Bytes that a process may hold while it fits all weights of the largest model that the jobs ask for."""
    from fewtune.models import count_parameters, find_model

    revisions = {name: revision for job in jobs for name, revision in job.revisions.items()}
    together = {tuple(job.weights) for job in jobs}
    names = {name for each in together for name in each}
    sizes = {name: count_parameters(find_model(name, revisions.get(name))) for name in names}
    largest = max((sum(sizes[name] for name in each) for each in together), default=0)
    return _LIBRARIES + _BYTES_PER_PARAMETER * largest


def find_free_memory() -> int:
    """Bytes that processes may take here: what the machine has free, and what this process's group is allowed."""
    import psutil

    free, limit = int(psutil.virtual_memory().available), read_memory()
    return free if limit is None else min(free, max(0, limit.most - limit.taken))


def _has_gpu() -> bool:
    """Whether PyTorch may find a GPU; asked of the system, for importing PyTorch takes seconds."""
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ and not list_gpus()
    return (Path("/dev/nvidiactl").exists() and not hidden) or Path("/dev/kfd").exists()
