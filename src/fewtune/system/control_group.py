"""Reads the limits of the container or scheduler job that this process runs in.

Owns reading it from Linux, as version 2 and version 1 of control groups tell it: of the process's own group and of
those around it the tightest counts. Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
"""Where Linux tells a process's own groups, a line each: number:controllers:path; no controllers are version 2."""
_NO_LIMIT = 1 << 60
"""Bytes from which on a limit of version 1 is none: it has no word for that."""


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes that the group may hold, and those of them that are taken, in it or around it, and not given back."""

    most: int
    taken: int


def read_cores() -> float | None:
    """Cores' worth of time that the group may take; None where it has no limit."""
    told = [_read(group / "cpu.max") for group in _list_groups("")]
    told += [
        f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}" for group in _list_groups("cpu")
    ]
    pairs = [[int(word) for word in (said or "").split() if word.isdigit()] for said in told]
    return min((pair[0] / pair[1] for pair in pairs if len(pair) == 2 and min(pair) > 0), default=None)


def read_memory() -> MemoryLimit | None:
    """What the group may hold and holds; None where it has no limit. Files that are cached count as free."""
    limits = [_read_limit(group, "memory.max", "memory.current", "") for group in _list_groups("")]
    limits += [
        _read_limit(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        for group in _list_groups("memory")
    ]
    known = [limit for limit in limits if limit is not None]
    if not known:
        return None
    most, free = min(limit.most for limit in known), min(limit.most - limit.taken for limit in known)
    return MemoryLimit(most, most - min(most, free))


def _read_limit(group: Path, most_file: str, taken_file: str, prefix: str) -> MemoryLimit | None:
    most, taken = _read(group / most_file) or "", _read(group / taken_file) or ""
    if not (most.isdigit() and taken.isdigit()) or int(most) >= _NO_LIMIT:
        return None
    files = {f"{prefix}{kind}_file" for kind in ("active", "inactive")}
    lines = [line.split() for line in (_read(group / "memory.stat") or "").splitlines()]
    pairs = [line for line in lines if len(line) == 2]
    cached = sum(int(count) for name, count in pairs if name in files and count.isdigit())
    return MemoryLimit(int(most), max(0, int(taken) - cached))


def _list_groups(controller: str) -> list[Path]:
    """The folders of the process's group and of those around it, as far as they are there; version 2 has no controller.

    In a container the outermost may be all that is seen.
    """
    own = "/"
    for line in (_read(OWN) or "").splitlines():
        names, _, path = line.partition(":")[2].partition(":")
        if controller in names.split(","):
            own = path
    steps, root = [step for step in own.split("/") if step not in ("", "..")], GROUP / controller
    return [root.joinpath(*steps[:count]) for count in range(len(steps) + 1)]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
