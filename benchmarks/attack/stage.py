"""Where one attack happens: a folder of its own, and commands run in it under bounds of time and memory.

Owns starting commands: forked off a process that has imported everything, so that a case costs tenths of a second, or
as real processes. Trial workers are forked off the same process. Does not judge.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from benchmarks.attack.verdict import Outcome

PRELOADED = ["benchmarks.attack.warm"]
"""What the process that all others are forked from imports."""

ROOM = 3 << 30
"""Bytes of memory that a command may take beyond what it is started with."""

LIMIT = 30.0
"""Seconds that a command may take, where a case does not say."""


@dataclass(frozen=True)
class Terms:
    """Under which circumstances a command runs."""

    limit: float = LIMIT
    """Seconds, after which it is killed and has hung."""
    environment: Mapping[str, str] = field(default_factory=dict)
    room: int = ROOM
    worker_room: int | None = None
    """Bytes of memory for a trial worker beyond what it is started with; None: as `room`."""
    encoding: str | None = None
    """What its terminal or pipe can show; UTF-8 where None."""
    terminal: bool = False
    """Whether it writes to a pseudo-terminal."""
    columns: int = 200


class Running:
    """A command that was started: to be waited for, or killed meanwhile."""

    def __init__(self, arguments: Sequence[str], folder: Path, terms: Terms) -> None:
        self.arguments, self.terms = tuple(arguments), terms
        self.log = folder / f".command-{time.monotonic_ns()}"
        self._started = time.perf_counter()
        slave, self._reader, self._shown = None, None, io.BytesIO()
        context = multiprocessing.get_context("forkserver")
        if terms.terminal:
            import pty

            self._master, slave = pty.openpty()
            self._reader = threading.Thread(target=self._drain, daemon=True)
        place = os.ttyname(slave) if slave is not None else None
        self.process = context.Process(target=_be_command, args=(self.arguments, folder, self.log, terms, place))
        self.process.start()
        if self._reader is not None:
            self._reader.start()
        self._slave = slave

    def worker_pids(self) -> list[int]:
        """The trial workers started so far, ended ones too."""
        path = Path(f"{self.log}.workers")
        return [int(line) for line in path.read_text().split()] if path.is_file() else []

    def wait(self) -> Outcome:
        """Wait for its end, or kill it past its limit."""
        self.process.join(max(0.0, self.terms.limit - (time.perf_counter() - self._started)))
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        seconds = time.perf_counter() - self._started
        output = self.log.read_bytes() if self.log.is_file() else b""
        if self._slave is not None:
            os.close(self._slave)
            assert self._reader is not None
            self._reader.join(5)
            os.close(self._master)
            output = self._shown.getvalue() + output
        return Outcome(self.arguments, code, output.decode("utf-8", "backslashreplace"), seconds)

    def _drain(self) -> None:
        try:
            while part := os.read(self._master, 65536):
                self._shown.write(part)
        except OSError:  # the last process that had the terminal open is gone
            return


class Stage:
    """The folder of one case, with the material every case starts from."""

    def __init__(self, folder: Path, material: Path, patience: float = 1.0) -> None:
        """`patience` is how many times as long as their terms say commands may take: a busy machine is slow."""
        self.folder, self.material, self.patience = folder, material, patience
        self.cache = material / "cache"

    def start(self, *arguments: str | Path, terms: Terms | None = None) -> Running:
        """Start a command, forked."""
        terms = terms or Terms()
        environment = {"FEWTUNE_CACHE": str(self.cache), **terms.environment}
        given = replace(terms, environment=environment, limit=terms.limit * self.patience)
        return Running([str(a) for a in arguments], self.folder, given)

    def command(self, *arguments: str | Path, terms: Terms | None = None) -> Outcome:
        """Run a command, forked, to its end."""
        return self.start(*arguments, terms=terms).wait()

    def real_command(
        self, *arguments: str | Path, terms: Terms | None = None, meanwhile: Callable[[int], None] | None = None
    ) -> Outcome:
        """Run a command in a real process: for what is decided as Python starts.

        `meanwhile` is called with its id while it runs.
        """
        terms = terms or Terms()
        environment = {**os.environ, "FEWTUNE_CACHE": str(self.cache), "COLUMNS": str(terms.columns)}
        environment |= {**terms.environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "fewtune.cli", *map(str, arguments)]
        started = time.perf_counter()
        log = self.folder / f".command-{time.monotonic_ns()}"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
            if meanwhile is not None:
                meanwhile(process.pid)
            code: int | None = None
            try:
                code = process.wait(max(0.0, terms.limit * self.patience - (time.perf_counter() - started)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        text = log.read_bytes().decode("utf-8", "backslashreplace")
        return Outcome(tuple(map(str, arguments)), code, text, time.perf_counter() - started)


def reuse_fork_server() -> None:
    """Let a process that was forked off the server fork its own children off it too, rather than start another."""
    server: Any = forkserver._forkserver
    if server._forkserver_address is not None and server._forkserver_pid is None:
        server.ensure_running = lambda: None


def _be_command(arguments: tuple[str, ...], folder: Path, log: Path, terms: Terms, terminal: str | None) -> None:
    """In a process of its own: be the command line."""
    if terminal is not None:
        os.setsid()
    _write_into(log if terminal is None else Path(terminal))
    os.environ.update(terms.environment)
    os.environ.update({"COLUMNS": str(terms.columns), "LINES": "50", "TERM": "xterm-256color"})
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        os.environ.pop(name, None)
    os.chdir(folder)
    # Streams anew: those that were inherited remember what they wrote to before.
    encoding = terms.encoding or "utf-8"
    sys.stdout = open(1, "w", buffering=1, encoding=encoding, errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    reuse_fork_server()
    room = terms.room if terms.worker_room is None else terms.worker_room
    _fork_instead_of_spawning(log, room)
    _limit_memory(terms.room)
    from fewtune.cli import main

    main(arguments)


def _write_into(path: Path) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(target, descriptor)
    os.close(target)


def _limit_memory(room: int) -> None:
    # Of what is private and can be written: libraries reserve address space by the gigabyte that they never touch.
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (taken + room, resource.RLIM_INFINITY))


class _Forking:
    """Stands for the context that starts trial workers: they are forked off the server, and say who they are."""

    def __init__(self, log: Path, room: int) -> None:
        self._log, self._room = log, room
        self._context = multiprocessing.context.BaseContext.get_context(
            multiprocessing.context._default_context, "forkserver"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Process(self, target: Callable[..., Any], args: Sequence[Any] = (), **others: Any) -> Any:  # noqa: N802
        environment = dict(os.environ)
        given = (self._log, self._room, environment, target, tuple(args))
        return self._context.Process(target=_be_worker, args=given, **others)


def _fork_instead_of_spawning(log: Path, room: int) -> None:
    real = multiprocessing.get_context
    forking = _Forking(log, room)

    def get_context(method: str | None = None) -> Any:
        return forking if method == "spawn" else real(method)

    multiprocessing.get_context = get_context


def _be_worker(log: Path, room: int, environment: Mapping[str, str], target: Callable[..., Any], args: Any) -> None:
    _write_into(log)
    os.environ.update(environment)
    with Path(f"{log}.workers").open("a") as file:
        file.write(f"{os.getpid()}\n")
    _limit_memory(room)
    target(*args)
