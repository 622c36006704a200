"""The server process: its socket, its model, and its shutdown.

Owns which addresses need a token, and which signals end it: at SIGTERM, Ctrl-C or a terminal that closes nothing new is
taken, what is under way is answered (`connections`), and the process ends well.
"""

from __future__ import annotations

import contextlib
import errno
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fewtune.errors import FewtuneError, shorten
from fewtune.serving.hosts import check_name, is_loopback

if TYPE_CHECKING:
    from fewtune.serving.connections import Server
    from fewtune.serving.limits import RequestLimits


@dataclass(frozen=True)
class Address:
    """Where a server listens, port 0 being any free one, the token that it asks for, and names it is asked under."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise FewtuneError where a name or the token is none that a header can carry, or others can ask without."""
        for name in self.names:
            check_name(name)
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]{8,512}", self.token):
            raise FewtuneError("--token should have 8 to 512 characters, letters, digits and signs without spaces.")
        if self.token is None and not is_loopback(self.host):
            raise FewtuneError(
                f"--host is {shorten(self.host)!r}, which others can reach: give --token, which they then need, or "
                "leave --host out to listen on this machine alone."
            )


@dataclass(frozen=True)
class Saved:
    """A saved model's folder, and where its base model lies where that is not the name it was fitted under."""

    folder: Path
    base: str | None = None


def serve_model(saved: Saved, address: Address, limits: RequestLimits, ready: Callable[[str, str], None]) -> None:
    """Serve a saved model until a signal ends it; `ready` is told the model's name and the address once it answers.

    Raises FewtuneError where the address cannot be used, PredictorError and ModelError where the model cannot.
    """
    address.check()
    with open_socket(address.host, address.port) as listening:
        from fewtune.api import load
        from fewtune.serving.app import Served, create_app
        from fewtune.serving.connections import Server

        predictor = load(saved.folder, saved.base)
        predictor.check_answers_alone()
        # What is imported and made at the first use is there before the first request.
        predictor.predict_probabilities([dict.fromkeys(predictor.fields, "a")])
        served = Served(saved.folder.resolve().name, predictor)
        app = create_app(served, limits, address.token, address.names)
        try:
            listening.listen(1024)
        except OSError as error:  # another that has the address too began to listen meanwhile
            raise FewtuneError(_format_address(address.host, address.port, error)) from error
        run_app(Server(app, limits, lambda: ready(served.name, _write_url(listening))), listening)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that has an address and does not listen yet; raises FewtuneError where it cannot have it."""
    opened: socket.socket | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        # Named, so that asyncio knows TCP and sends at once: else each answer waits 40 ms for the client's receipt.
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
    except (OSError, UnicodeError) as error:
        if opened is not None:
            opened.close()
        raise FewtuneError(_format_address(host, port, error)) from error
    return opened


def _format_address(host: str, port: int, error: OSError | UnicodeError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return f"port {port} of {shorten(host)} is in use: give --port another, or 0 for any free one."
    if code == errno.EACCES:
        return f"port {port} needs rights that this user has not: give --port one from 1024 on."
    reason = error.strerror if isinstance(error, OSError) else "no host's name"
    return f"--host {shorten(host)!r} is no address of this machine ({reason}): leave it out, or give one."


def _write_url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_app(server: Server, listening: socket.socket) -> None:
    """Answer what comes to a socket until a signal asks to end; then answer what is under way."""
    with _hang_up_as(server.handle_exit), contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])  # which raises what ended it once more, when all is answered


@contextlib.contextmanager
def _hang_up_as(end: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, a terminal that closes ends as Ctrl-C does; where that is ignored (`nohup`), it stays ignored."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGHUP, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
