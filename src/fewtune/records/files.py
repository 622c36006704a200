"""Files written whole or not at all.

Owns how a file is replaced, and what its name is until it is whole. Knows no record.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UMASK = os.umask(0o077)
"""What the process's user takes from the permissions of new files; it can be read by setting it alone."""
os.umask(UMASK)

PART = ".part"
"""How the name of a file ends while it is being written; it begins with a dot."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: temporary file beside it, fsync, rename. An OSError names `path`."""
    with open_atomically(path) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, there once this ends without an error and whole; else nothing is. An OSError names `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644 & ~UMASK)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise name_path(error, path) from error


def name_path(error: OSError, path: Path) -> OSError:
    """The same error, of the file that was to be written and not of a temporary one or of none."""
    return OSError(error.errno, error.strerror or str(error), str(path))
