"""Packages are fetched whole or not at all, and checked at every call."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fewtune.data import packages as fetching
from fewtune.data.packages import fetch_package
from fewtune.errors import DataError

CONTENT = b"a package"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


def answer_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None, stderr: str = "") -> list[list[str]]:
    """Stand in for pip: it leaves `content` in the folder asked for, or fails with `stderr`."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", stderr)
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "file").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", run)
    return calls


def test_a_package_is_fetched_once_and_then_reused(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer_pip(monkeypatch, CONTENT)
    path = fetch_package("some-name", "1.0", SHA256)
    assert path == packages / "some_name-1.0-py3-none-any.whl"
    assert path.read_bytes() == CONTENT
    assert fetch_package("some-name", "1.0", SHA256) == path
    assert len(calls) == 1
    assert "--require-hashes" in calls[0]


def test_a_package_of_another_hash_leaves_nothing_behind(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_pip(monkeypatch, b"something else")
    with pytest.raises(DataError, match=r"its SHA-256 is .*, wanted is"):
        fetch_package("name", "1.0", SHA256, kind="sdist")
    assert [path.name for path in packages.iterdir() if not path.name.endswith(".lock")] == []


def test_an_interrupted_fetch_leaves_nothing_behind(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(command: list[str], **_: Any) -> None:
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_package("name", "1.0", SHA256)
    assert [path.name for path in packages.iterdir() if not path.name.endswith(".lock")] == []


def test_a_cache_that_cannot_be_written_serves_what_it_holds(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.mkdir(parents=True)
    (packages / "name-1.0.tar.gz").write_bytes(CONTENT)

    def refuse(path: Path) -> None:
        raise PermissionError("Read-only file system")

    monkeypatch.setattr("filelock.FileLock", refuse)
    assert fetch_package("name", "1.0", SHA256, kind="sdist").read_bytes() == CONTENT
    with pytest.raises(DataError, match="the cache folder cannot be used"):
        fetch_package("other", "1.0", SHA256, kind="sdist")


def test_a_python_without_pip_is_told(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"this Python has none. Install it \(`uv pip install pip`"):
        fetch_package("name", "1.0", SHA256)


def test_a_failed_fetch_says_what_to_do(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_pip(monkeypatch, None, "ERROR: No matching distribution found for name==1.0\n")
    with pytest.raises(DataError) as caught:
        fetch_package("name", "1.0", SHA256, kind="sdist")
    message = str(caught.value)
    assert message.startswith("name 1.0 could not be fetched with pip (ERROR: No matching distribution")
    assert "Set the package index that pip uses" in message
    assert f"put the file at {packages / 'name-1.0.tar.gz'} by hand" in message


def test_a_fetch_that_finds_no_room_names_the_folders_and_not_the_index(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    answer_pip(monkeypatch, None, f"{told}\n")
    with pytest.raises(DataError, match=r"could not be kept there \(No space left on device\)\. Make room") as caught:
        fetch_package("name", "1.0", SHA256, kind="sdist")
    assert str(packages) in str(caught.value) and "PIP_INDEX_URL" not in str(caught.value)


def test_a_file_put_by_hand_is_checked(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer_pip(monkeypatch, None)
    packages.mkdir(parents=True)
    (packages / "name-1.0.tar.gz").write_bytes(CONTENT)
    assert fetch_package("name", "1.0", SHA256, kind="sdist").read_bytes() == CONTENT
    (packages / "name-1.0.tar.gz").write_bytes(b"wrong")
    with pytest.raises(DataError, match="Delete it: the next run fetches it again"):
        fetch_package("name", "1.0", SHA256, kind="sdist")
    assert calls == []
