"""What the control group that this process is in may use: a container's share of a machine, where it has one.

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
    quota, period = said.split()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def read_memory() -> MemoryLimit | None:
    """What the group may hold and holds; None where it has no limit. Files that are cached count as free."""
    for most_file, taken_file, statistics, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    ):
        most, taken = _read(most_file), _read(taken_file)
        if most is not None and taken is not None:
            if most == "max" or int(most) >= _NO_LIMIT:
                return None
            counts = dict(line.split() for line in (_read(statistics) or "").splitlines())
            cached = sum(int(counts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
            return MemoryLimit(int(most), max(0, int(taken) - cached))
    return None


def _read(name: str) -> str | None:
    try:
        return (GROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
