"""Sets up a process that runs trials or answers rows: its environment, and what it does first.

Owns the environment of its libraries, importing what trials import, and wording a failure of the process itself.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import traceback
from functools import cache

from fewtune.methods import get_method
from fewtune.records import Failure
from fewtune.running.job import Job, Progress
from fewtune.system.failure_kinds import find_failure_kind

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
    # oneDNN, and PyTorch beside it, keep what they prepared for each shape of a product, up to a quarter of a megabyte
    # each. A step's shapes, which blocks share, are some dozens; another step's are others, and of the usual thousand
    # most would only take memory.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "LRU_CACHE_CAPACITY": "256",
    # A GPU's products are then added in one order: equal studies give equal predictions there too.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
"""What the libraries of a worker read as it starts, unless the user's environment says otherwise."""

_MALLOPT = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, -1), "MALLOC_TOP_PAD_": (-2, 64 << 20)}
"""glibc's numbers of these settings for `mallopt`, and their values there; -1 trims never."""

STALL_SECONDS = 1800.0
"""Seconds without a sign of progress after which a worker is ended, where nothing else is asked. Workers tell of every
step, and of every layer that a network ran (`engine.pulse`), so that a trial may take far longer."""


def set_up_here() -> None:
    """Give this process what workers start with, as far as one that runs already can take it; before torch is imported.

    The allocator reads its settings as a process starts, and glibc's takes them later too, but for large pages. What
    the user's environment sets stays.
    """
    unset = [name for name in WORKER_ENVIRONMENT if name not in os.environ]
    os.environ.update({name: WORKER_ENVIRONMENT[name] for name in unset if name not in _MALLOPT})
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:  # else another C library
            for name in unset:
                if name in _MALLOPT:
                    set_option(*_MALLOPT[name])


def describe_failure(error: Exception, where: str = "") -> Failure:
    """A failure outside of any trial's own record, such as too little memory to make one."""
    told, kind = f"{where}{type(error).__name__}: {error}", find_failure_kind(error)
    # Reading the sources that a trace shows takes memory that there is not.
    trace = None if kind == "out_of_memory" else traceback.format_exc()
    return Failure(kind=kind, message=" ".join(told.split()), trace=trace)


def harms_process(failure: Failure | None) -> bool:
    """Whether a trial failed in a way that later trials of its process would fail by.

    What could not be allocated is half set up in the libraries; after most errors of a GPU its context is of no use.
    """
    if failure is None:
        return False
    return failure.kind == "out_of_memory" or any(f"{kind} error" in failure.message for kind in ("CUDA", "HIP"))


def format_stall(silent: float, last: Progress | None) -> str:
    """Why a process that told nothing for so many seconds was ended."""
    at = f" at step {last.step} of {last.steps}" if last is not None and last.steps else ""
    phase = f"{last.phase}{at}" if last is not None else "starting"
    return (
        f"no progress for {silent:.0f} seconds ({phase}), so the process that ran this trial was ended. "
        "Where such a pause is no fault, allow longer ones: --stall-after SECONDS."
    )


def set_up_for(job: Job) -> None:
    """Import what a job's trial imports, and set how this process keeps freed pages and adds on a GPU.

    What was imported for an earlier job stays. A trial that uses no model needs half of it.
    """
    _import_libraries()
    if get_method(job.trial.method.name).uses_model:
        import_engine()


@cache
def _import_libraries() -> None:
    import sklearn.linear_model  # noqa: F401
    import torch

    from fewtune.engine.pages import keep_freed_pages

    keep_freed_pages()
    if torch.cuda.is_available():
        # What adds in any order there gives other last bits each time. An operation without another way only warns.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property


@cache
def import_engine() -> None:
    """Import all that trials with a model import.

    Each trial collects garbage twice, and looking through half a million objects of libraries takes a quarter of a
    second each time; collecting while they are imported, a fifth of the whole import. Called before any model is
    loaded: models must stay collectable.
    """
    gc.disable()
    _import_libraries()
    import fewtune.methods.teacher  # noqa: F401 - imports the engine and all that trains

    gc.collect()
    gc.freeze()
    gc.enable()
