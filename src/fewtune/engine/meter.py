"""What a trial costs: seconds by phase, and peak memory of that trial alone.

Owns the measuring, the same for every method, and that no second is counted twice. Does not know what is measured
(`records.PHASES` says what each phase of a trial means), and imports torch only where a GPU is watched.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fewtune.text import Tokenizer

OTHER = "other"
"""The phase of every moment that no other phase claims."""


@dataclass
class Span:
    """One passage through a phase; its seconds, phases within it included, are known when it ends."""

    seconds: float = 0.0


class Meter:
    """Seconds by phase since the meter was made, every moment in one phase; memory since it was told to watch."""

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._tokenizers: tuple[Tokenizer, ...] = ()
        self._tokenised = 0.0
        self._start_bytes: int | None = None
        self._peak_is_own = False
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._phase = OTHER
        self._booked = time.perf_counter()

    def watch(self, device: torch.device, tokenizers: Iterable[Tokenizer] = ()) -> None:
        """From here on measure memory on a device, and give what these tokenizers take to the phase `tokenise`."""
        self._book()
        self._device = device
        self._tokenizers = tuple(set(tokenizers))
        self._tokenised = self._count_tokenising()
        _release_free_memory(device)
        self._start_bytes = _memory_now(device)
        self._peak_is_own = _reset_peak(device)

    @contextmanager
    def phase(self, name: str) -> Iterator[Span]:
        """Give a phase the time spent inside, but for what phases within it and the tokenizers take."""
        self._finish_work()
        span, outer, started = Span(), self._phase, self._book()
        self._phase = name
        try:
            yield span
        finally:
            self._finish_work()
            span.seconds = self._book() - started
            self._phase = outer

    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far: they add up to all that passed since the meter was made."""
        self._book()
        return dict(self._seconds)

    def _book(self) -> float:
        """Give the time since the last call to the phase under way; what the clock shows now."""
        now, tokenised = time.perf_counter(), self._count_tokenising()
        apart = tokenised - self._tokenised
        self._seconds[self._phase] += now - self._booked - apart
        if self._tokenizers:
            self._seconds["tokenise"] += apart
        self._booked, self._tokenised = now, tokenised
        return now

    def _finish_work(self) -> None:
        """Wait for what a GPU was given, so that it counts where it was asked for."""
        if self._device is not None and self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)

    def _count_tokenising(self) -> float:
        return sum(tokenizer.seconds for tokenizer in self._tokenizers)

    def peak_memory_bytes(self, shared_bytes: int = 0) -> int | None:
        """Peak memory of this trial: what it added, and the shared model it used; None where unmeasurable."""
        peak = _peak_memory(self._device) if self._device is not None else None
        if not self._peak_is_own or peak is None or self._start_bytes is None:
            return None
        return max(0, peak - self._start_bytes) + shared_bytes


def _release_free_memory(device: torch.device) -> None:
    """Hand freed memory back, so that an earlier trial's is neither counted nor reused unseen."""
    gc.collect()
    if device.type == "cuda":
        import torch

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
        import torch

        return torch.cuda.memory_allocated(device)
    return _status_bytes("VmRSS")


def _reset_peak(device: torch.device) -> bool:
    if device.type == "cuda":
        import torch

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
        import torch

        return torch.cuda.max_memory_allocated(device)
    return _status_bytes("VmHWM")


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
