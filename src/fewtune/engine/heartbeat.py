"""Heartbeats of a running trial: the engine beats at every layer, and the process that runs it may listen.

Owns how often the listener is called. A beat shows progress, not merely a living process: code that waits or loops
outside a network does not beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_APART = 5.0
"""Seconds between two beats that a listener hears of."""

_listener: Callable[[], None] | None = None
_heard = 0.0


def beat() -> None:
    """Report that a part of the work is done; costs next to nothing."""
    global _heard
    if _listener is not None and time.monotonic() - _heard >= SECONDS_APART:
        _heard = time.monotonic()
        _listener()


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Inside, call a listener on beats, on the thread that works, at most once in SECONDS_APART."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
