"""A command that is disturbed: started as its users start it, in a group of its own, with what it started found.

Owns starting it, finding its processes, and the check that none of them lives on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

LANE = "FEWTUNE_CHAOS_LANE"
"""Names in a process's environment whose it is."""
ENDING = 20.0
"""Seconds that processes may take to end after their command did."""


class Command:
    """A `fewtune` that runs."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        lane: str,
        folder: Path,
        limit: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`limit` is called in the new process, before it is the command."""
        self.lane = lane
        given = os.environ | {LANE: lane, "FEWTUNE_CACHE": str(folder / "cache"), **(environment or {})}
        self.log = folder / "command.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fewtune.cli", *map(str, arguments)],
                cwd=folder,
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=limit,
            )

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def list_workers(self) -> list[psutil.Process]:
        """The processes that it started to run trials."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "spawn_main" in " ".join(_read_line(child))]
        return []

    def send(self, number: int) -> bool:
        """Send it a signal; False where it has ended."""
        if self.runs:
            self.process.send_signal(number)
            return True
        return False

    def send_group(self, number: int) -> bool:
        """Send it, and all that it started, a signal; False where it has ended."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
                return True
        return False

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it takes longer, and is killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send_group(signal.SIGKILL)
            self.process.wait()
            return None

    def find_survivors(self) -> list[int]:
        """Its processes that live on for long after it has ended; they are killed."""
        until = time.monotonic() + ENDING
        while left := [each for each in psutil.process_iter() if _read_lane(each) == self.lane]:
            if time.monotonic() > until:
                for each in left:
                    with contextlib.suppress(psutil.Error):
                        each.kill()
                return [each.pid for each in left]
            time.sleep(0.1)
        return []


def _read_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _read_lane(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(LANE)
    except psutil.Error:
        return None
