"""What happens to a command while it runs, and to its folder between two commands.

Owns the kinds and their moments. Each says what it did, so that it can be counted; nothing here judges.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.chaos.processes import Command

STALLED = 20.0
"""Seconds without progress after which commands are told to end a worker: starting one takes some."""

Disturb = Callable[[Command, random.Random], str | None]
"""Does it, and returns what it was; None where there was nothing to do it to."""


def kill_command(command: Command, rng: random.Random) -> str | None:
    return "SIGKILL of the command" if command.send(signal.SIGKILL) else None


def kill_group(command: Command, rng: random.Random) -> str | None:
    return "SIGKILL of the whole group" if command.send_group(signal.SIGKILL) else None


def kill_worker(command: Command, rng: random.Random) -> str | None:
    return _signal_worker(command, rng, signal.SIGKILL)


def stop_worker(command: Command, rng: random.Random) -> str | None:
    return _signal_worker(command, rng, signal.SIGSTOP)


def pause_command(command: Command, rng: random.Random) -> str | None:
    if not command.send(signal.SIGSTOP):
        return None
    time.sleep(rng.uniform(0.1, 1.0))
    command.send(signal.SIGCONT)
    return "SIGSTOP and SIGCONT of the command"


def terminate_command(command: Command, rng: random.Random) -> str | None:
    number = rng.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
    return f"{number.name} of the command" if command.send(number) else None


def _signal_worker(command: Command, rng: random.Random, number: signal.Signals) -> str | None:
    workers = command.list_workers()
    if not workers:
        return None
    try:
        rng.choice(workers).send_signal(number)
    except psutil.Error:
        return None
    return f"{number.name} of a worker"


DISTURBANCES: tuple[tuple[Disturb, int], ...] = (
    (kill_worker, 6),
    (kill_command, 7),
    (kill_group, 6),
    (terminate_command, 2),
    (pause_command, 1),
    (stop_worker, 1),
)
"""What is done while a command runs, and how often of all."""


def limit_files(kibibytes: int) -> Callable[[], None]:
    """No file of the process may be longer: writing more fails, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes << 10, resource.RLIM_INFINITY))

    return limit


def limit_memory(mebibytes: int) -> Callable[[], None]:
    """The process and those that it starts may each hold so much of their own."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, resource.RLIM_INFINITY))

    return limit


def damage_file(out: Path, rng: random.Random) -> str | None:
    """Do to a file of a folder what a disk, an editor or a half-done copy does to it."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    if not files:
        return None
    path = rng.choice(files)
    content, how = path.read_bytes(), rng.choice(("cut short", "emptied", "overwritten", "deleted"))
    if how == "cut short":
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "overwritten":
        path.write_bytes(rng.randbytes(200))
    else:
        path.unlink()
    kind = path.parent.name if path.parent != out else path.name
    return f"{kind}: {how}"


def leave_litter(out: Path, rng: random.Random) -> str | None:
    """Leave what a command that was killed while it wrote leaves."""
    folders = [folder for folder in (out / "trials", out / "predictions") if folder.is_dir()]
    if not folders:
        return None
    name = f"{rng.getrandbits(64):016x}.json"
    (rng.choice(folders) / f".{name}.{rng.getrandbits(32):08x}.part").write_bytes(rng.randbytes(100))
    return "half-written files left"


def turn_clock(out: Path, rng: random.Random) -> str | None:
    """Let a folder's files be of a day in the past or to come, as where a clock was set."""
    moment = time.time() + rng.choice((-1, 1)) * rng.uniform(3600, 400 * 86400)
    for path in out.rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(path, (moment, moment))
    return "files of another day" if out.is_dir() else None
