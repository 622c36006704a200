"""What every request passes: an id, the token, and a count of it.

Owns who may ask and the header of ids. A browser that is asked for a password may give the token as one, whatever the
user's name, so that the page can be opened. Bearer: https://www.rfc-editor.org/rfc/rfc6750
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ID = "X-Request-ID"
OPEN = frozenset({"/health"})
"""Paths that need no token."""
_ID_FORM = re.compile(r"[\x21-\x7e]{1,128}")

Count = Callable[[str, int, float], None]
"""Told of each request: its path, status and seconds."""


class Gate:
    """Wraps an application: gives each request an id, refuses those without the token (None: all may ask)."""

    def __init__(self, app: ASGIApp, token: str | None, paths: frozenset[str], count: Count) -> None:
        self._app = app
        self._token = token
        self._paths = paths
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path, began, status = Headers(scope=scope), scope["path"], time.perf_counter(), 500
        given = headers.get(ID, "")
        request_id = given if _ID_FORM.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID] = request_id
            await send(message)

        try:
            if self._token is None or path in OPEN or knows_token(headers.get("authorization", ""), self._token):
                await self._app(scope, receive, send_with_id)
            else:
                await _refuse()(scope, receive, send_with_id)
        finally:
            self._count(path if path in self._paths else "other", status, time.perf_counter() - began)


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


def _refuse() -> JSONResponse:
    message = "this server asks for its token: send the header Authorization: Bearer TOKEN."
    response = JSONResponse({"error": message, "error_type": "unauthorized"}, 401)
    for scheme in ("Bearer", "Basic"):  # a header each: Chromium reads the first scheme of one alone
        response.headers.append("WWW-Authenticate", f'{scheme} realm="fewtune"')
    return response
