"""A folder on a disk of its own in memory, which fills while a study writes to it.

Owns mounting it, where whoever asks may, and how much room it has.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

ROOM = 64 << 20
LITTLE = (0, 4 << 10, 16 << 10, 64 << 10)
"""Bytes that are left on a disk that fills: none, or enough for some files."""


def can_mount(folder: Path) -> bool:
    """Whether a disk can be made under a folder: most users may not."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        try:
            with SmallDisk(Path(place) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


class SmallDisk:
    """A disk in memory (tmpfs) in place of a folder; use as a context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> SmallDisk:
        self._folder.mkdir()
        _call("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _call("umount", "--lazy", str(self._folder))

    @property
    def used(self) -> int:
        """Bytes that are taken of it."""
        stands = os.statvfs(self._folder)
        return (stands.f_blocks - stands.f_bfree) * stands.f_frsize

    def leave(self, room: int) -> None:
        """Leave so many bytes beside what is there; of an empty disk a page at the least."""
        self._resize(max(4096, self.used + room))

    def fill(self, rng: random.Random) -> str:
        """Leave little room beside what is there."""
        self.leave(rng.choice(LITTLE))
        return "a disk that fills"

    def make_room(self) -> None:
        """Leave room enough, as after somebody cleared the disk."""
        self._resize(ROOM)

    def _resize(self, size: int) -> None:
        _call("mount", "-o", f"remount,size={size}", str(self._folder))


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
