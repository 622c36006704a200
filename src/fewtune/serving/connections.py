"""Connections of a server: time limits of requests, and a shutdown that finishes those that have begun.

Owns the bounds that hold before a request can be asked anything (its header's bytes, how long it may take to arrive),
the answer to what is no request, and who is still let in as the server ends. HTTP itself is uvicorn's, read by h11: its
other parser bounds no header.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from socket import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewtune.errors import shorten
from fewtune.serving.gate import ID, Gate, make_id, refuse_header
from fewtune.serving.limits import RequestLimits
from fewtune.serving.refusals import RefusedError, answer_refusal

LONGEST_STOP = 120
"""Seconds that requests under way have to be answered once the server is to end."""
LAST_CALL = 0.5
"""Seconds that a client who is connected has to begin a request once the server is to end."""
LINGER = 2.0
"""Seconds that what a refused client still sends is taken unread: closed at once, it would lose its answer."""


class Connection(H11Protocol):
    """One client's connection: bounds what the client owes, where uvicorn waits for ever."""

    def __init__(self, limits: RequestLimits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Called where h11 cannot read what came: answer in words, with the status that it would give."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            self._refuse(refuse_header(self._limits.header_bytes))
        else:
            message = f"this is no HTTP/1.1 that can be read ({shorten(str(error))})."
            self._refuse(RefusedError(status, "http", message))

    def shutdown(self) -> None:
        """Called as the server ends: who has not asked may have sent what has not been read yet."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LAST_CALL, self._close_idle)
        else:
            super().shutdown()

    def _set_deadline(self) -> None:
        """Set a time for what the client owes: a header, or a body after its answer; before, the app waits for it."""
        state = self.conn.their_state
        answered = self.cycle is None or self.cycle.response_complete
        owes = state is h11.IDLE or (state is h11.SEND_BODY and answered)
        if owes and self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.receive_seconds, self._end_wait)
        elif not owes and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_wait(self) -> None:
        if self._has_begun():
            message = f"the header did not arrive within {self._limits.receive_seconds:g} s: send it at once."
            self._refuse(RefusedError(408, "timeout", message))
        else:
            self.timeout_keep_alive_handler()

    def _close_idle(self) -> None:
        if self.conn.their_state is h11.IDLE and not self._has_begun():
            self.timeout_keep_alive_handler()

    def _has_begun(self) -> bool:
        """Whether a part of a header has come."""
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _refuse(self, refused: RefusedError) -> None:
        """Answer what never came to be a request, where no answer has begun, and close."""
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True  # whatever the app says of a body that cannot be read
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = answer_refusal(refused)
            response.headers.update({ID: make_id(), "Connection": "close"})
            headers = [*self.server_state.default_headers, *response.raw_headers]
            start = h11.Response(
                status_code=refused.status, headers=headers, reason=HTTPStatus(refused.status).phrase.encode()
            )
            for event in (start, h11.Data(bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)
        else:
            self.transport.close()


class Server(uvicorn.Server):
    """A server that says when it answers, and whose end loses nobody who had begun."""

    def __init__(self, app: Gate, limits: RequestLimits, ready: Callable[[], None]) -> None:
        connect: Any = partial(Connection, limits)
        config = uvicorn.Config(
            app,
            http=connect,
            ws="none",
            h11_max_incomplete_event_size=limits.header_bytes,
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LONGEST_STOP,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End; those who have connected are let in before, for a socket that closes resets who waits at it."""
        arrived = [each for listening in sockets or [] for each in _accept_all(listening)]
        for server in self.servers:
            server.close()
        for each in arrived:
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, each)
        self.server_state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(0.05)  # whoever was let in last is known by then
        await super().shutdown(sockets)
        if self.force_exit:  # a second Ctrl-C, at which uvicorn leaves all of this to be torn down with the loop
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def _connect(self) -> asyncio.Protocol:
        make = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore


def _accept_all(listening: socket) -> Iterator[socket]:
    """Those who wait at a socket, which does not block."""
    with contextlib.suppress(OSError):  # none waits any more, or no more can be let in
        while True:
            arrived, _ = listening.accept()
            arrived.setblocking(False)
            yield arrived
