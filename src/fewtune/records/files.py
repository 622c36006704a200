"""Writes files and folders completely or not at all.

Owns how they are replaced, what their names are until they are whole, and what is said where one cannot be written.
Knows no record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil

from fewtune.errors import FewtuneError, UnwrittenError
from fewtune.system.failure_kinds import FULL, find_system_error
from fewtune.system.sizes import format_bytes

UMASK = os.umask(0o077)
"""What the process's user takes from the permissions of new files; it can be read by setting it alone."""
os.umask(UMASK)

LITTLE = 1 << 16
"""Bytes of room with less of which a disk counts as full, where an error does not say why it came."""
PART = ".part"
"""How the name of a file or folder ends while it is being written; it begins with a dot."""
_WRITER = re.compile(rf"\.(\d+)\.[^.]+{re.escape(PART)}$")
"""Where a folder's name has the process that writes it."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: temporary file beside it, fsync, rename. An UnwrittenError names `path`."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all of them or none; an UnwrittenError names the one that could not be written."""
    parts: dict[Path, Path] = {}
    with _leaving_no_folder(contents):
        try:
            for path, content in contents.items():
                with _open_part(path, len(content)) as (file, parts[path]):
                    file.write(content)
            for path, part in parts.items():
                with _naming(path):
                    part.replace(path)
        except BaseException:
            for part in parts.values():
                part.unlink(missing_ok=True)
            raise


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, there once this ends without an error and whole; else nothing is.

    An UnwrittenError names `path`; what else is raised within, as of a file that is read, is raised as it is.
    """
    with _leaving_no_folder([path]):
        with _open_part(path) as (file, part):
            yield file
        try:
            with _naming(path):
                part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def fill_atomically(folder: Path, last: str | None = None, needed: int | None = None) -> Iterator[Path]:
    """A folder to write into, which stands as `folder` once this ends without an error; else nothing is there.

    `folder` is new, or empty, and then stays the folder that it is: something may be mounted there. What was written
    comes into it piece by piece, the file called `last` at the end. `needed`: how many bytes it takes, where known.
    An UnwrittenError names `folder`; what else is raised within is raised as it is.
    """
    around = folder if folder.is_dir() else folder.parent
    with _naming(folder, needed):
        around.mkdir(parents=True, exist_ok=True)
        for left in _list_left(folder) if around is folder else ():
            shutil.rmtree(left)
        scratch = Path(tempfile.mkdtemp(dir=around, prefix=f".{folder.name}.{os.getpid()}.", suffix=PART))
    with _naming(folder, needed, scratch):
        try:
            finished = scratch / "finished"
            finished.mkdir()
            yield finished
            for path in finished.rglob("*"):
                _sync(path)
            if around is folder:
                _move_each(finished, folder, last)
            else:
                finished.rename(folder)
        except OSError as error:
            if error.errno is None and _measure_room(scratch) < LITTLE:  # as NumPy's `tofile`, which knows no number
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def is_empty(folder: Path) -> bool:
    """Whether a folder can be filled: it holds nothing, or what a command left that was killed while it filled it."""
    return len(_list_left(folder)) == len(list(folder.iterdir()))


def check_room(path: Path, least: int) -> None:
    """Raise UnwrittenError where not even so many bytes can be written beside a path; leaves nothing there."""
    with _open_part(path, least) as (file, part):
        file.write(bytes(least))
    part.unlink()


@contextmanager
def open_scratch() -> Iterator[Path]:
    """A temporary folder, where the system has its own; an UnwrittenError names that where it has no room."""
    place = Path(tempfile.gettempdir())
    with _naming(place):
        scratch = Path(tempfile.mkdtemp(prefix="fewtune-"))
    with _naming(place, None, scratch):
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def name_path(error: OSError, path: Path, needed: int | None = None) -> UnwrittenError:
    """The same error, of the file that was to be written and not of a temporary one or of none; says what to do."""
    remedy = "mend that, or name another place"
    if error.errno in FULL:
        takes = "" if needed is None else f", {format_bytes(needed)} needed"
        remedy = f"{format_bytes(_measure_room(path))} free there{takes}: make room, or name another place"
    told = f"{remedy[0].upper()}{remedy[1:]}, and give the command again: what was finished is kept."
    return UnwrittenError(error.errno, error.strerror or str(error), str(path), told)


@contextmanager
def _leaving_no_folder(paths: Iterable[Path]) -> Iterator[None]:
    """On an error folders around these paths that were not there before are not there afterwards, if nothing is in."""
    new = {each for path in paths for each in path.absolute().parents if not each.exists()}
    try:
        yield
    except BaseException:
        for folder in sorted(new, reverse=True):  # inner ones first
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _measure_room(path: Path) -> int:
    """Bytes that are free where a path lies or would lie."""
    return shutil.disk_usage(next(each for each in (path, *path.absolute().parents) if each.exists())).free


@contextmanager
def _open_part(path: Path, needed: int | None = None) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file beside `path`, and where it is; it stays there, whole, where this ends without an error."""
    with _naming(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    part = Path(name)
    with _naming(path, needed, part):
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, part
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644 & ~UMASK)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def _naming(path: Path, needed: int | None = None, part: Path | None = None) -> Iterator[None]:
    """Raise the system's errors as ones of `path`; with `part`, those alone that name no other file than in there."""
    try:
        yield
    except Exception as error:
        found = find_system_error(error) if isinstance(error, OSError) or not isinstance(error, FewtuneError) else None
        if found is None or not (part is None or found.filename is None or Path(found.filename).is_relative_to(part)):
            raise
        raise name_path(found, path, needed) from error


def _list_left(folder: Path) -> list[Path]:
    """What was being written into a folder by commands that were killed; not what one that lives is writing."""
    names = {path: _WRITER.search(path.name) for path in folder.glob(f".*{PART}") if path.is_dir()}
    return [path for path, writer in names.items() if writer is None or not psutil.pid_exists(int(writer.group(1)))]


def _sync(path: Path) -> None:
    """Have a file on the disk: some systems say at this moment alone that it is full."""
    if path.is_file():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def _move_each(finished: Path, folder: Path, last: str | None) -> None:
    pieces = sorted(finished.iterdir(), key=lambda path: path.name == last)
    try:
        for path in pieces:
            path.rename(folder / path.name)
    except BaseException:
        for path in pieces:
            if not path.exists():
                (folder / path.name).rename(path)  # and away with the rest
        raise
