"""What a trial costs: seconds, and peak memory of that trial alone.

Owns the measuring, the same for every method. Does not know what is measured.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Meter:
    """Seconds by phase, and the growth of memory since the meter was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = {}
        _release_free_memory(device)
        self._start_bytes = _memory_now(device)
        self._peak_is_own = _reset_peak(device)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase's seconds."""
        started = time.perf_counter()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    def seconds(self, name: str) -> float | None:
        """Seconds of a phase; None where it never began."""
        return self._seconds.get(name)

    def peak_memory_bytes(self, shared_bytes: int = 0) -> int | None:
        """Peak memory of this trial: what it added, and the shared model it used; None where unmeasurable."""
        peak = _peak_memory(self._device)
        if not self._peak_is_own or peak is None or self._start_bytes is None:
            return None
        return max(0, peak - self._start_bytes) + shared_bytes


def _release_free_memory(device: torch.device) -> None:
    """Hand freed memory back, so that an earlier trial's is neither counted nor reused unseen."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # not glibc: freed memory may stay with the process, and the peak reads a little low


def _status_bytes(field: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _memory_now(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status_bytes("VmRSS")


def _reset_peak(device: torch.device) -> bool:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        # Linux: writing 5 sets the process's resident high-water mark to what is resident now.
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - no truncation dance of pathlib here
            file.write("5")
    except OSError:
        return False
    return True


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status_bytes("VmHWM")


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
