"""A process that is set up as workers are keeps the memory that was freed, and what its user set."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import psutil
import pytest

from fewtune.running.executors.parent import STARVED, begin_worker, watch_parent
from fewtune.running.executors.process import WORKER_ENVIRONMENT

SCRIPT = """
import os, resource, sys
from fewtune.running.executors.process import set_up_here
if "set" in sys.argv:
    set_up_here()
assert "torch" not in sys.modules
import numpy as np
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, os.environ.get("GOMP_SPINCOUNT"))
"""


def count_faults(*arguments: str, **environment: str) -> tuple[int, str]:
    plain = {name: value for name, value in os.environ.items() if name not in WORKER_ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], env=plain | environment, capture_output=True, text=True, check=True
    )
    faults, spins = done.stdout.split()
    return int(faults), spins


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is set")
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    plain, _ = count_faults()
    kept, spins = count_faults("set")
    assert kept * 10 < plain and spins == WORKER_ENVIRONMENT["GOMP_SPINCOUNT"]


def test_what_the_users_environment_says_stays() -> None:
    assert count_faults("set", GOMP_SPINCOUNT="77")[1] == "77"


def _starve() -> None:
    raise MemoryError


class _Starving:
    """Something whose reading imports more than memory holds."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _starve, ()


def test_a_worker_without_memory_for_its_imports_says_so_by_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=begin_worker, args=(theirs,))
    process.start()
    ours.send((_Starving(), None))
    process.join(60)
    assert process.exitcode == STARVED and "Traceback" not in capfd.readouterr().err


def _wait_for_parent(pipe: Connection) -> None:
    watch_parent()
    time.sleep(0.5)
    pipe.send(os.getpid())
    time.sleep(600)


def _be_parent(pipe: Connection) -> None:
    multiprocessing.get_context("spawn").Process(target=_wait_for_parent, args=(pipe,)).start()
    time.sleep(600)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends processes that are stopped: run it there.")
def test_a_process_that_is_stopped_ends_with_the_one_that_started_it() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_be_parent, args=(theirs,))
    parent.start()
    assert ours.poll(60)
    child = psutil.Process(ours.recv())
    child.suspend()
    parent.kill()
    parent.join(60)
    _, alive = psutil.wait_procs([child], timeout=30)
    assert alive == []
