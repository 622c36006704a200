"""Measures peak memory of a stretch of work: bytes allocated at once, and bytes resident in its process.

Owns how both are measured on a GPU and on a processor. Allocated bytes compare methods: they leave out libraries and
what earlier trials left. Held bytes say what a machine must have: libraries, the model, freed memory that stays with
the process. What earlier trials freed is given back to the system first, but for what `pages` keeps for this one.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.engine.pages import count_in_use

if TYPE_CHECKING:
    import torch

_watching: PeakMemory | None = None
"""The watch that began last, while it goes on."""
_SHORTEST_WAIT = 0.01
_SHARE_OF_A_CORE = 0.02


class PeakMemory:
    """Measures from its creation until `stop`.

    A GPU's counters are exact. A processor's memory is polled by a thread, every hundredth of a second, or so seldom
    that counting takes at most 2 % of a core's time: shorter peaks may be missed. Waits for a processor or for Python's
    lock do not count, so that a busy machine is polled as often as an idle one.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._count = _count_peak_on_gpu(device) if on_gpu else find_counter()
        self._held, self._held_is_peak = (_count_reserved_on_gpu(device), True) if on_gpu else _find_held()
        self._highest = self._start = self._lately = self._count() if self._count is not None else 0
        self._counting = threading.Lock()
        """Held while memory is counted: meanwhile the other thread may free some and begin a stretch."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.resident: int | None = None
        """The most bytes that the process held since the start, known once it is stopped; None where it cannot be.

        On a processor resident memory, libraries and model included. On a GPU its own memory, as far as PyTorch
        reserved it: what it holds for later use is in it, the driver's context of some hundred megabytes is not.
        """
        global _watching
        _watching = self
        if not on_gpu and (self._count is not None or not self._held_is_peak):
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def stop(self) -> int | None:
        """The most bytes allocated since the start, beyond those that were then; None where this cannot be found."""
        if not self._stopped.is_set():
            global _watching
            _watching = None if _watching is self else _watching
            self._stopped.set()
            if self._thread is not None:
                self._thread.join()
            self._see(last=True)
        return None if self._count is None else self._highest - self._start

    @contextmanager
    def stretch(self) -> Iterator[Stretch]:
        """Measure within the watch: the most bytes that what runs inside has allocated beyond those before it."""
        found = Stretch()
        self._see()
        with self._counting:
            before = self._lately = self._count() if self._count is not None else 0
        yield found
        self._see()
        found.bytes = self._lately - before

    def claim(self, size: int) -> None:
        """Count so many bytes as allocated for a moment, as if the work that took them were done again."""
        if self._count is not None:
            self._highest = max(self._highest, self._count() + size)

    def _look(self) -> None:
        wait = _SHORTEST_WAIT
        while not self._stopped.wait(wait):
            began = time.thread_time()
            self._see()
            wait = max(_SHORTEST_WAIT, (time.thread_time() - began) / _SHARE_OF_A_CORE)

    def _see(self, last: bool = False) -> None:
        if self._count is not None:
            with self._counting:
                now = self._count()
                self._lately = max(self._lately, now)
                self._highest = max(self._highest, now)
        if self._held is not None and (last or not self._held_is_peak):
            self.resident = max(self.resident or 0, self._held())


@dataclass
class Stretch:
    """A part of a watch; `bytes` is known when it ends."""

    bytes: int = 0


def find_watch() -> PeakMemory | None:
    """The watch that goes on now, the latest where there are several."""
    return _watching


def _count_peak_on_gpu(device: torch.device) -> Callable[[], int]:
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return functools.partial(torch.cuda.max_memory_allocated, device)


def _count_reserved_on_gpu(device: torch.device) -> Callable[[], int]:
    import torch

    return functools.partial(torch.cuda.max_memory_reserved, device)


MARK = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
"""Where Linux tells what a process holds; `VmHWM` is the most since the process, or the reset of the mark, began."""


def _find_held() -> tuple[Callable[[], int] | None, bool]:
    """How to read the bytes this process holds, and whether that reads the peak since now or the present value.

    None where the system does not tell.
    """
    give_back_freed_memory()
    try:
        MARK.write_text("5")  # proc(5): sets VmHWM back to what is held now
        field = "VmHWM"
    except OSError:
        field = "VmRSS"
    try:
        _read_status(field)
    except (OSError, LookupError):
        return None, True
    return functools.partial(_read_status, field), field == "VmHWM"


def _read_status(field: str) -> int:
    """Bytes of one field of this process's status; raises LookupError where it has none."""
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise LookupError(field)


def give_back_freed_memory() -> None:
    """Return freed memory to the system, where glibc can, so that no later trial is charged for it."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):
        return  # another allocator, which keeps or gives back as it will


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
    """How to read the bytes in use; None without glibc 2.33 or newer, or where another allocator replaces it."""
    try:
        read = ctypes.CDLL(None).mallinfo2
    except (OSError, TypeError, AttributeError):
        return None
    read.restype = _Mallinfo2

    def count() -> int:
        counts = read()
        return int(counts.uordblks + counts.hblkhd)

    before, block = count(), bytearray(1 << 24)
    return (lambda: count() + count_in_use()) if count() - before >= len(block) else None
