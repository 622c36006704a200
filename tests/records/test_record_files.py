"""What is written is whole or not there, and what cannot be read tells nothing instead of ending a command."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fewtune.errors import FewtuneError, UnwrittenError
from fewtune.records import Cost, append_event, files, find_last_run, load_events, write_atomically


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with not a byte left, but for the rest of one file's last page."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs ({mounted.stderr.strip()}): run the tests as root")
    try:
        append_event(disk, "run", trials=1)
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(filler, b"x" * 4096):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
        finally:
            os.close(filler)
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_takes_no_half_of_a_line(full_disk: Path) -> None:
    before = (full_disk / "events.jsonl").read_bytes()
    with pytest.raises(OSError, match="No space left") as told:
        append_event(full_disk, "finished", why="x" * 10_000)
    assert told.value.filename == str(full_disk / "events.jsonl")
    assert (full_disk / "events.jsonl").read_bytes() == before
    assert find_last_run(full_disk) > 0


def test_a_full_disk_takes_no_half_of_a_file_and_is_told_with_its_name(full_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as told:
        write_atomically(full_disk / "study.yaml", b"x" * 100_000)
    assert told.value.filename == str(full_disk / "study.yaml")
    assert sorted(path.name for path in full_disk.iterdir()) == ["events.jsonl", "filler"]


def test_a_full_disk_takes_no_half_of_a_folder_and_says_how_much_it_would_take(full_disk: Path) -> None:
    (full_disk / "empty").mkdir()
    for folder in (full_disk / "new", full_disk / "empty"):
        words = r"No space left.* 0 B free there, 3 MiB needed: make room"
        with (
            pytest.raises(UnwrittenError, match=words) as told,
            files.fill_atomically(folder, needed=3 << 20) as finished,
        ):
            (finished / "within").mkdir()
            (finished / "within" / "weights").write_bytes(b"x" * 100_000)
        assert told.value.filename == str(folder)
    assert sorted(path.name for path in full_disk.rglob("*")) == ["empty", "events.jsonl", "filler"]


def test_what_a_killed_command_left_is_cleared_and_what_another_writes_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, living = (tmp_path / f".{tmp_path.name}.{pid}.x1{files.PART}" for pid in (gone.pid, os.getpid()))
    left.mkdir()
    assert files.is_empty(tmp_path)
    with files.fill_atomically(tmp_path) as finished:
        assert not left.exists() and not files.is_empty(tmp_path), "it is being filled"
        living.mkdir()
        with files.fill_atomically(tmp_path) as second:
            (second / "b").touch()
        (finished / "a").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", living.name}


def test_what_a_library_in_rust_says_of_a_disk_is_told_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UnwrittenError, match="No space left") as told, files.fill_atomically(tmp_path / "model"):
        raise Exception("No space left on device (os error 28)")
    assert told.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_an_error_without_a_number_on_a_full_disk_is_that_of_the_disk(full_disk: Path, tmp_path: Path) -> None:
    (full_disk / "filler").unlink()
    array = np.zeros(1 << 20)  # NumPy's `tofile` has no number for why it fails
    with pytest.raises(UnwrittenError, match="No space left"), files.fill_atomically(full_disk / "model") as finished:
        array.tofile(finished / "weights")
    with pytest.raises(OSError, match="cannot be read"), files.fill_atomically(tmp_path / "model"):
        raise OSError("cannot be read")


def test_what_is_read_while_something_is_written_keeps_its_own_name(tmp_path: Path) -> None:
    for write in (files.open_atomically, files.fill_atomically):
        with pytest.raises(FileNotFoundError, match="elsewhere"), write(tmp_path / "out"):
            (tmp_path / "elsewhere").read_bytes()
    assert not list(tmp_path.iterdir())


def test_of_several_files_none_is_there_where_one_cannot_be_written(full_disk: Path) -> None:
    (full_disk / "filler").unlink()
    write_atomically(full_disk / "first", b"an earlier one")
    with pytest.raises(UnwrittenError) as told:
        files.write_together({full_disk / "first": b"anew", full_disk / "second": b"x" * 100_000})
    assert told.value.filename == str(full_disk / "second")
    assert (full_disk / "first").read_bytes() == b"an earlier one"
    assert sorted(path.name for path in full_disk.iterdir()) == ["events.jsonl", "first"]


def test_an_unwritten_error_travels_between_processes() -> None:
    error = files.name_path(OSError(errno.EROFS, "Read-only file system"), Path("/out/model"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.errno == errno.EROFS and isinstance(again, FewtuneError)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o644)])
def test_what_is_written_obeys_the_umask(
    umask: int, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "UMASK", umask)
    write_atomically(tmp_path / "answers.csv", b"a text of a user's\n")
    assert (tmp_path / "answers.csv").stat().st_mode & 0o777 == mode


def test_a_write_that_stops_short_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_event(tmp_path, "run")
    before = (tmp_path / "events.jsonl").read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[: len(line) // 2]))
    with pytest.raises(OSError, match="No space left"):
        append_event(tmp_path, "finished")
    assert (tmp_path / "events.jsonl").read_bytes() == before


def test_a_line_after_a_half_written_one_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"time": 1.0, "event": "run"}\n{"time": 2.0, "ev')
    append_event(tmp_path, "interrupted")
    assert [event["event"] for event in load_events(tmp_path)] == ["run", "interrupted"]


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    lines = [
        json.dumps({"time": 5.0, "event": "run"}),
        *('{"time": 9, "ev}', "{}", "[]", "7", '"run"', "null", "", '{"event": "run"}', '{"time": 9}'),
        *('{"time": "9", "event": "run"}', '{"time": true, "event": "run"}', '{"time": 9, "event": ["run"]}'),
        *('{"time": NaN, "event": "run"}', '{"time": Infinity, "event": "run"}'),
        '{"time": 1' + "0" * 400 + ', "event": "run"}',
        '{"time": 1' + "0" * 5000 + ', "event": "run"}',
        "[" * 100_000,
    ]
    (tmp_path / "events.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"time": 9, "event": "\xff\xfe')
    assert find_last_run(tmp_path) == 5.0
    assert len(load_events(tmp_path)) == 1


def test_a_cost_of_before_resident_memory_was_recorded_loads() -> None:
    old = {
        "fit_seconds": 1.0,
        "predict_seconds": 1.0,
        "peak_memory_bytes": 5,
        "trainable_parameters": None,
        "total_parameters": None,
        "fit_tokens": None,
        "predict_tokens": None,
    }
    cost = Cost.model_validate(old)
    assert cost.resident_memory_bytes is None
    assert Cost.model_validate({**old, "resident_memory_bytes": 9}).resident_memory_bytes == 9
