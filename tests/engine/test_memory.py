"""A peak is what was allocated at once since the watch began, whatever was freed before it and since."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from fewtune.engine.memory import PeakMemory, find_counter

CPU = torch.device("cpu")
MEBIBYTE = 1 << 20

needs_counter = pytest.mark.skipif(
    find_counter() is None, reason="needs glibc 2.33 or newer as the allocator: run without LD_PRELOAD, on Linux"
)


def hold(mebibytes: int, seconds: float = 0.2) -> None:
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
    assert PeakMemory(CPU).stop() is None
