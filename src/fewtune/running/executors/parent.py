"""Ties a worker to the process that started it: set-up before heavy imports, and its end when that one ends.

Owns both. Imports nothing but the standard library: a worker that is stopped while it still imports ends too.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of `prctl`."""
STARVED = 77
"""Exit code of a worker whose memory does not suffice even to report a failure, or to import what it works with."""


def begin_worker(pipe: Connection) -> None:
    """The first function of a worker; the pipe's first message is the function that goes on, and that one's options."""
    watch_parent()
    try:
        work, options = pipe.recv()  # which imports all that it works with
        work(pipe, options)
    except MemoryError:
        os._exit(STARVED)


def watch_parent() -> None:
    """End this process at once, whatever it does, when the one that started it is gone: it neither runs on nor records.

    On Linux the system does so even to one that is stopped, and could not end itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
