"""A command in a process of its own, watched from outside: seconds, processor seconds, peak memory of the whole tree.

Owns the watching, the cap, and ending all that the command began.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import psutil

from fewtune.system.processor import usable_cores

Ending = Literal["done", "capped", "failed"]
PAUSE = 0.1
"""Seconds between two looks."""
ANSWER_SECONDS = 3600.0
"""What a command may take for its test rows once its model is there: no part of what is measured."""


@dataclass(frozen=True)
class Watched:
    """What was seen of a command until its model was there."""

    ending: Ending
    seconds: float
    processor_seconds: float
    """Of all its processes, user and system."""
    peak_bytes: int
    """Resident memory of all its processes together, at most; pages that two share count twice."""
    output: str = ""


@dataclass(frozen=True)
class Cap:
    """How long a command may take to make its model, and what that is counted in."""

    seconds: float
    by_processor: bool = False
    """Counts processor time over cores, where that is less: on a machine that does other work too."""

    def is_passed(self, seconds: float, processor_seconds: float) -> bool:
        """Whether a command has taken longer."""
        return (min(seconds, processor_seconds / usable_cores()) if self.by_processor else seconds) > self.seconds


@dataclass
class _Tree:
    """A process with all that it began, and what was seen of them so far."""

    root: psutil.Process
    spent: dict[int, float] = field(default_factory=dict)
    """Processor seconds by process, of those that ended too."""
    peak_bytes: int = 0

    def look(self) -> None:
        """See what each has used by now."""
        held = 0
        for process in self._list():
            try:
                with process.oneshot():
                    times, resident = process.cpu_times(), process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
            self.spent[process.pid] = times.user + times.system
            held += resident
        self.peak_bytes = max(self.peak_bytes, held)

    def end(self) -> None:
        """End all that still runs, and wait until what the root began is gone."""
        processes = self._list()
        for process in reversed(processes):
            try:
                process.kill()
            except psutil.Error:  # it has just ended
                continue
        psutil.wait_procs(processes[1:], timeout=10)

    def _list(self) -> list[psutil.Process]:
        try:
            return [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return []


def watch(
    command: Sequence[str],
    folder: Path,
    cap: Cap,
    made: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Watched:
    """Run a command in a folder, with `environment` besides this process's.

    With `made`, figures are those until the command writes that file, `{"at": seconds since the epoch}`: then its model
    is there, and it goes on to answer test rows.
    """
    log = folder / "log.txt"
    with log.open("w", encoding="utf-8") as out:
        began = time.time()
        variables = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=subprocess.STDOUT)
        tree, found = _Tree(psutil.Process(process.pid)), None
        try:
            while found is None or process.poll() is None:
                ended, at = process.poll() is not None, _read_moment(made)
                if found is None:
                    tree.look()
                    if at is not None:
                        found = _tell(tree, "done", at - began)
                    elif ended or cap.is_passed(time.time() - began, sum(tree.spent.values())):
                        done = ended and process.returncode == 0 and made is None
                        found = _tell(tree, "done" if done else "failed" if ended else "capped", time.time() - began)
                        break
                elif time.time() - began - found.seconds > ANSWER_SECONDS:
                    break
                time.sleep(PAUSE)
            if process.returncode != 0 and found.ending == "done":  # a model that could not answer
                found = replace(found, ending="failed")
        finally:
            tree.end()
            process.wait()
    return replace(found, output=log.read_text(encoding="utf-8", errors="replace"))


def _read_moment(made: Path | None) -> float | None:
    if made is None or not made.is_file():
        return None
    return float(json.loads(made.read_text(encoding="utf-8"))["at"])


def _tell(tree: _Tree, ending: Ending, seconds: float) -> Watched:
    return Watched(ending, seconds, sum(tree.spent.values()), tree.peak_bytes)
