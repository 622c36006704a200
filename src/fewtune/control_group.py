"""What a container may use of its machine, where this process is in one.

Owns reading it from Linux, as version 2 and version 1 of control groups tell it. Sources:
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""Bytes from which on a limit of version 1 is none: it has no word for that."""


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes that the group may hold, and those that it holds and cannot give back."""

    most: int
    taken: int


def read_cores() -> float | None:
    """Cores' worth of time that the group may take; None where it has no limit."""
    said = _read("cpu.max") or f"{_read('cpu/cpu.cfs_quota_us')} {_read('cpu/cpu.cfs_period_us')}"
    numbers = [int(word) for word in said.split() if word.isdigit()]
    return numbers[0] / numbers[1] if len(numbers) == 2 and min(numbers) > 0 else None


def read_memory() -> MemoryLimit | None:
    """What the group may hold and holds; None where it has no limit. Files that are cached count as free."""
    for most_file, taken_file, statistics, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    ):
        most, taken = _read(most_file), _read(taken_file)
        if most is not None and taken is not None:
            if not (most.isdigit() and taken.isdigit()) or int(most) >= _NO_LIMIT:
                return None
            files = {f"{prefix}{kind}_file" for kind in ("active", "inactive")}
            lines = [line.split() for line in (_read(statistics) or "").splitlines()]
            pairs = [line for line in lines if len(line) == 2]
            cached = sum(int(count) for name, count in pairs if name in files and count.isdigit())
            return MemoryLimit(int(most), max(0, int(taken) - cached))
    return None


def _read(name: str) -> str | None:
    try:
        return (GROUP / name).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
