"""What a container may use of its machine, as both versions of control groups tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.system import control_group
from fewtune.system.control_group import MemoryLimit, read_cores, read_memory
from fewtune.system.processor import usable_cores


@pytest.fixture(autouse=True)
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the system's."""
    monkeypatch.setattr(control_group, "GROUP", tmp_path)
    monkeypatch.setattr(control_group, "OWN", tmp_path / "own")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    """Files of a group; `__` in a name is a folder's end."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"{text}\n")


def test_without_a_group_there_is_no_limit() -> None:
    assert read_cores() is None and read_memory() is None and usable_cores() >= 1


@pytest.mark.parametrize(("said", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5)])
def test_version_2_limits_cores(group: Path, said: str, cores: float | None) -> None:
    write(group, **{"cpu.max": said})
    assert read_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", None), ("200000", 2.0)])
def test_version_1_limits_cores(group: Path, quota: str, cores: float | None) -> None:
    write(group, **{"cpu__cpu.cfs_quota_us": quota, "cpu__cpu.cfs_period_us": "100000"})
    assert read_cores() == cores


def test_half_a_core_is_one_that_may_be_used(group: Path) -> None:
    write(group, **{"cpu.max": "50000 100000"})
    assert usable_cores() == 1


def test_files_that_are_cached_count_as_free(group: Path) -> None:
    held = "anon 100\nactive_file 30\ninactive_file 20\nfile 60"
    write(group, **{"memory.max": "1000", "memory.current": "160", "memory.stat": held})
    assert read_memory() == MemoryLimit(most=1000, taken=110)


def test_version_1_counts_the_groups_below_it_too(group: Path) -> None:
    held = "active_file 1\ninactive_file 2\ntotal_active_file 30\ntotal_inactive_file 20"
    names = ("memory__memory.limit_in_bytes", "memory__memory.usage_in_bytes", "memory__memory.stat")
    write(group, **dict(zip(names, ("1000", "160", held), strict=True)))
    assert read_memory() == MemoryLimit(most=1000, taken=110)


def test_the_tightest_of_the_groups_around_a_job_counts(group: Path) -> None:
    """As Slurm and systemd have it: the limit stands further up or down than the process's own group."""
    write(group, own="0::/slurm/job_1/step_0")
    write(group, **{"slurm__cpu.max": "800000 100000", "slurm__job_1__cpu.max": "max 100000"})
    write(group, **{"slurm__job_1__step_0__cpu.max": "400000 100000"})
    write(group, **{"slurm__memory.max": "9000", "slurm__memory.current": "100"})
    write(group, **{"slurm__job_1__memory.max": "1000", "slurm__job_1__memory.current": "60"})
    assert read_cores() == 4.0 and read_memory() == MemoryLimit(most=1000, taken=60)
    write(group, **{"slurm__memory.current": "8600"})  # by other jobs: 400 are left for this one of its 1000
    assert read_memory() == MemoryLimit(most=1000, taken=600)


def test_version_1_tells_a_group_by_controller_and_a_container_sees_its_outermost_alone(group: Path) -> None:
    write(group, own="5:cpuacct,cpu:/job\n4:memory:/docker/ab\n0::/elsewhere")
    write(group, **{"cpu__job__cpu.cfs_quota_us": "200000", "cpu__job__cpu.cfs_period_us": "100000"})
    write(group, **{"memory__memory.limit_in_bytes": "1000", "memory__memory.usage_in_bytes": "60"})
    assert read_cores() == 2.0 and read_memory() == MemoryLimit(most=1000, taken=60)


@pytest.mark.parametrize("said", ["", "max", "two 100000", "100000 0", "1 2 3", "\xb5"])
def test_what_cannot_be_read_is_no_limit(group: Path, said: str) -> None:
    files = dict.fromkeys(("cpu.max", "memory.max", "memory.current", "memory.stat"), said)
    write(group, **files)
    assert read_cores() is None and read_memory() is None
    odd = {"memory.stat": "active_file many\ninactive_file"}
    write(group, **{"memory.max": "1000", "memory.current": "160"}, **odd)
    assert read_memory() == MemoryLimit(most=1000, taken=160)


@pytest.mark.parametrize("name", ["memory.max", "memory__memory.limit_in_bytes"])
def test_no_limit_is_none(group: Path, name: str) -> None:
    taken = {"memory.max": "memory.current"}.get(name, "memory__memory.usage_in_bytes")
    write(group, **{name: "max" if name == "memory.max" else "9223372036854771712", taken: "160"})
    assert read_memory() is None
