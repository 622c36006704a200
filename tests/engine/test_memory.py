"""A peak is what was allocated at once since the watch began, whatever was freed before it and since."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from fewtune.engine import memory
from fewtune.engine.memory import PeakMemory, find_counter, find_watch

CPU = torch.device("cpu")
MEBIBYTE = 1 << 20

needs_counter = pytest.mark.skipif(
    find_counter() is None, reason="needs glibc 2.33 or newer as the allocator: run without LD_PRELOAD, on Linux"
)


def hold(mebibytes: int, seconds: float = 0.5) -> None:
    """Allocate and touch so much, keep it for a while, let it go."""
    block = torch.ones(mebibytes * MEBIBYTE // 4)
    time.sleep(seconds)
    del block


@needs_counter
def test_a_peak_between_start_and_stop_is_seen_and_what_was_there_before_is_not_counted() -> None:
    kept = torch.ones(64 * MEBIBYTE // 4)
    hold(256)  # an earlier trial's, freed: its memory may stay with the process
    watch = PeakMemory(CPU)
    hold(100)
    hold(40)
    peak = watch.stop()
    assert peak is not None
    assert 99 * MEBIBYTE <= peak < 110 * MEBIBYTE
    assert kept.numel()


@needs_counter
def test_two_blocks_at_once_count_both() -> None:
    watch = PeakMemory(CPU)
    first = torch.ones(30 * MEBIBYTE // 4)
    hold(50)
    del first
    peak = watch.stop()
    assert peak is not None
    assert 79 * MEBIBYTE <= peak < 90 * MEBIBYTE


@needs_counter
def test_a_watch_that_is_stopped_leaves_no_thread_behind_and_may_be_stopped_again() -> None:
    before = threading.active_count()
    watch = PeakMemory(CPU)
    assert threading.active_count() == before + 1
    first = watch.stop()
    assert threading.active_count() == before
    assert first is not None
    assert watch.stop() is not None


@needs_counter
@pytest.mark.parametrize("settings", [{}, {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}])
def test_freed_memory_counts_as_free_however_the_allocator_is_set(settings: dict[str, str]) -> None:
    code = """
from fewtune.engine.memory import find_counter
count = find_counter()
before = count()
block = bytearray(50 << 20)
held = count() - before
del block
print(held >> 20, (count() - before) >> 20)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["50", "0"]


def test_without_the_allocators_counts_a_peak_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewtune.engine.memory.find_counter", lambda: None)
    watch = PeakMemory(CPU)
    assert watch.stop() is None
    assert watch.resident is not None


def test_a_count_that_waits_for_a_processor_makes_later_counts_no_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = threading.Semaphore(0)

    def wait_and_count() -> int:
        time.sleep(0.1)  # takes none of a core's time, as a thread that waits for its turn
        seen.release()
        return 0

    monkeypatch.setattr(memory, "find_counter", lambda: wait_and_count)
    watch = PeakMemory(CPU)
    deadline = time.monotonic() + 4
    counts = [seen.acquire(timeout=max(0, deadline - time.monotonic())) for _ in range(5)]
    watch.stop()
    assert all(counts), "five counts of a tenth of a second each, well within four seconds"


needs_status = pytest.mark.skipif(not memory.STATUS.is_file(), reason="needs Linux's /proc")


# In a process of its own: what the tests' own holds moves by tens of MiB as it gives back what others freed.
HELD = """
import sys, time
from pathlib import Path
import torch
from fewtune.engine import memory

def hold(mebibytes):
    block = torch.ones(mebibytes << 18)
    time.sleep(0.2)
    del block

if sys.argv[1] == "looked at":  # the mark cannot be reset: what is held is looked at, as what is allocated
    memory.MARK = Path("/no/such/folder/clear_refs")
hold(300)  # an earlier trial's: the mark of what the process ever held is above this one's
watch = memory.PeakMemory(torch.device("cpu"))
early, before = watch.resident, memory._read_status("VmRSS")
hold(100)
watch.stop()
seen = watch.resident
hold(300)
watch.stop()
print(early, before, seen, watch.resident)
"""


@needs_status
@pytest.mark.parametrize("how", ["reset", "looked at"])
def test_what_the_process_held_is_told_beside_what_was_allocated(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", HELD, how], check=True, capture_output=True, text=True)
    early, *figures = done.stdout.split()
    assert early == "None", "known once the watch is over"
    before, seen, after = map(int, figures)
    assert before + 99 * MEBIBYTE <= seen < before + 200 * MEBIBYTE
    assert after == seen, "what came after it is not its own"


@needs_status
def test_what_an_earlier_trial_freed_is_no_later_ones_whatever_the_allocator_keeps() -> None:
    code = """
import torch
from fewtune.engine.memory import PeakMemory, _read_status
blocks = [torch.ones(1 << 18) for _ in range(400)]
blocks.clear()
kept = _read_status("VmRSS")
watch = PeakMemory(torch.device("cpu"))
watch.stop()
print(kept >> 20, watch.resident >> 20)
"""
    settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, check=True, capture_output=True, text=True
    )
    kept, held = map(int, done.stdout.split())
    assert held < kept - 300


def test_without_a_system_that_tells_what_is_held_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARK", "STATUS"):
        monkeypatch.setattr(memory, name, tmp_path / "no folder" / "file")
    watch = PeakMemory(CPU)
    watch.stop()
    assert watch.resident is None


@needs_counter
def test_a_stretch_is_measured_within_a_watch_and_may_be_claimed_again() -> None:
    watch = PeakMemory(CPU)
    assert find_watch() is watch
    kept = torch.ones(8 * MEBIBYTE // 4)
    with watch.stretch() as stretch:
        hold(32)
    with watch.stretch() as nothing:
        pass
    watch.claim(64 * MEBIBYTE)
    peak = watch.stop()
    assert find_watch() is None
    assert peak is not None and 71 * MEBIBYTE <= peak < 80 * MEBIBYTE and kept.numel()
    assert 31 * MEBIBYTE <= stretch.bytes < 40 * MEBIBYTE and nothing.bytes < MEBIBYTE
