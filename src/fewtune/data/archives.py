"""Reads one file out of a tar or zip archive without unpacking it to disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from fewtune.errors import DataError

_MEMBER_LIMIT_BYTES = 2**31


def read_member(archive: Path | bytes, member: str) -> bytes:
    """The content of one regular file of a tar or zip archive, by exact name; nothing is unpacked to disk.

    `archive` is a path, or the bytes of an archive that lay inside another. Raises DataError where the
    archive is damaged, has no such file, or the file is over 2 GiB.
    """
    shown = str(archive) if isinstance(archive, Path) else "an archive inside an archive"
    try:
        stream = io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb")
        with stream:
            content = _read_zip(stream, member) if zipfile.is_zipfile(stream) else _read_tar(stream, member)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{shown}: cannot be read as an archive ({error}). Delete it: the next run fetches it again."
        ) from error
    if content is None:
        raise DataError(f"{shown}: has no file {member!r} under {_MEMBER_LIMIT_BYTES} bytes.")
    return content


def _read_zip(stream: Any, member: str) -> bytes | None:
    with zipfile.ZipFile(stream) as opened:
        info = next((info for info in opened.infolist() if info.filename == member), None)
        if info is None or info.is_dir() or info.file_size > _MEMBER_LIMIT_BYTES:
            return None
        return opened.read(info)


def _read_tar(stream: Any, member: str) -> bytes | None:
    stream.seek(0)
    with tarfile.open(fileobj=stream) as opened:
        info = next((info for info in opened if info.name == member), None)
        if info is None or not info.isfile() or info.size > _MEMBER_LIMIT_BYTES:
            return None
        file = opened.extractfile(info)
        return file.read() if file is not None else None
