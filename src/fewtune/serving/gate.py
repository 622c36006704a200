"""Middleware of every request: its id, header limit, host names, token and count.

Owns who may ask, the header of ids, and the answer to who has waited for as long as the server's end may last. A
browser that is asked for a password may give the token as one, whatever the user's name, so that the page can be
opened. Bearer: https://www.rfc-editor.org/rfc/rfc6750
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import re
import time
import uuid
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewtune.serving.hosts import check_hosts
from fewtune.serving.refusals import RefusedError, answer_refusal

ID = "X-Request-ID"
OPEN = frozenset({"/health"})
"""Paths that need no token."""
_ID_FORM = re.compile(r"[\x21-\x7e]{1,128}")
_ENDED = RefusedError(503, "ending", "the server ended before this was answered: ask again.", [("Connection", "close")])

Count = Callable[[str, int, float], None]
"""Told of each request: its path, status and seconds."""


class Gate:
    """Wraps an application: gives each request an id, and refuses those that may not pass.

    Without a token (None) a request may name this machine and `names` in Host and Origin; with one all names, unless
    there are `names`, for it is the token then that a site of another's has not.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        names: Collection[str],
        header_bytes: int,
        paths: Collection[str],
        count: Count,
    ) -> None:
        self._app = app
        self._token = token
        self._names = None if token is not None and not names else frozenset(map(str.lower, names))
        self._header_bytes = header_bytes
        self._paths = frozenset(paths)
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path, began, status = Headers(scope=scope), scope["path"], time.perf_counter(), 0
        given = headers.get(ID, "")
        request_id = given if _ID_FORM.fullmatch(given) else make_id()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID] = request_id
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, receive, send_with_id)
        except RefusedError as refused:
            await answer_refusal(refused)(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if status == 0:  # else the client reads its answer too slowly; so it may this one, until the loop ends
                with contextlib.suppress(asyncio.CancelledError):
                    await answer_refusal(_ENDED)(scope, receive, send_with_id)
        finally:
            self._count(path if path in self._paths else "other", status or 500, time.perf_counter() - began)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise RefusedError where a request may not pass."""
        if count_header_bytes(scope) > self._header_bytes:
            raise refuse_header(self._header_bytes)
        if self._names is not None:
            check_hosts(headers, self._names)
        if self._token is None or scope["path"] in OPEN or knows_token(headers.get("authorization", ""), self._token):
            return
        message = "this server asks for its token: send the header Authorization: Bearer TOKEN."
        # A header each: Chromium reads the first scheme of one alone.
        ways = [("WWW-Authenticate", f'{scheme} realm="fewtune"') for scheme in ("Bearer", "Basic")]
        raise RefusedError(401, "unauthorized", message, ways)


def make_id() -> str:
    """An id for a request that has none."""
    return uuid.uuid4().hex


def count_header_bytes(scope: Scope) -> int:
    """Bytes of a request's path, query and headers."""
    lines = sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    return lines + len(scope["raw_path"]) + len(scope["query_string"])


def refuse_header(most_bytes: int) -> RefusedError:
    """The refusal of a header that is longer, whoever sees it first."""
    return RefusedError(431, "header_size", f"the headers have more than {most_bytes} bytes: send fewer, or shorter.")


def knows_token(authorization: str, token: str) -> bool:
    """Whether a header gives the token, as Bearer or as a password; takes as long for any wrong one of a length."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        given = _read_password(given)
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())


def _read_password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""  # which is no token
