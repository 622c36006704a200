"""Peak memory of one stretch of work: the most bytes it held allocated at once.

Owns how that is found on a GPU and on a processor. Counted is what is allocated, on both, and not what the process
holds: memory that an earlier trial freed stays with the process, to be used again, and is no later trial's cost.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SHORTEST_WAIT = 0.01
_SHARE_OF_A_CORE = 0.02


class PeakMemory:
    """Watches from the moment it is made until it is stopped.

    A GPU's own counters are exact. A processor's memory is looked at from a thread, every hundredth of a second or, as
    one look goes through all that is free, so seldom that looking takes a fiftieth of one core: what was allocated for
    less than that may be missed.
    """

    def __init__(self, device: torch.device) -> None:
        self._count = _count_peak_on_gpu(device) if device.type == "cuda" else find_counter()
        self._highest = self._start = self._count() if self._count is not None else 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if self._count is not None and device.type != "cuda":
            self._thread = threading.Thread(target=self._look, args=(self._count,), daemon=True)
            self._thread.start()

    def stop(self) -> int | None:
        """The most bytes allocated since the start, beyond those that were then; None where this cannot be found."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._count is None:
            return None
        return max(self._highest, self._count()) - self._start

    def _look(self, count: Callable[[], int]) -> None:
        wait = _SHORTEST_WAIT
        while not self._stopped.wait(wait):
            began = time.perf_counter()
            self._highest = max(self._highest, count())
            wait = max(_SHORTEST_WAIT, (time.perf_counter() - began) / _SHARE_OF_A_CORE)


def _count_peak_on_gpu(device: torch.device) -> Callable[[], int]:
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return functools.partial(torch.cuda.max_memory_allocated, device)


class _Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`; `uordblks` and `hblkhd` are the bytes in use in heaps and in mappings.

    Source: mallinfo(3).
    """

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@functools.cache
def find_counter() -> Callable[[], int] | None:
    """How the bytes in use are read; None without glibc 2.33 or newer, or where another allocator stands in for it."""
    try:
        read = ctypes.CDLL(None).mallinfo2
    except (OSError, TypeError, AttributeError):
        return None
    read.restype = _Mallinfo2

    def count() -> int:
        counts = read()
        return int(counts.uordblks + counts.hblkhd)

    before, block = count(), bytearray(1 << 24)
    return count if count() - before >= len(block) else None
