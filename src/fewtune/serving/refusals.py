"""A rejected request as a value, and the one form of its answer.

Owns that form alone. Does not know why anything is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import JSONResponse


class RefusedError(Exception):
    """A request that is refused: its status, what kind of mistake it is, the message and headers besides."""

    def __init__(self, status: int, kind: str, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.status = status
        self.kind = kind
        self.headers = tuple(headers)
        super().__init__(message)


def answer_refusal(refused: RefusedError) -> JSONResponse:
    """The answer to a refused request."""
    response = JSONResponse({"error": str(refused), "error_type": refused.kind}, refused.status)
    for name, value in refused.headers:
        response.headers.append(name, value)
    return response
