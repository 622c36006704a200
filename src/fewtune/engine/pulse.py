"""Signs that work goes on: whoever runs networks beats here, layer by layer, and a process may listen.

Owns how often a listener hears of it. A beat tells of progress made, not of a living process: what waits for ever, or
turns in a circle outside the network, beats no more.
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
    """Tell that a part of the work is done; costs next to nothing."""
    global _heard
    if _listener is not None and time.monotonic() - _heard >= SECONDS_APART:
        _heard = time.monotonic()
        _listener()


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Call a listener on beats, within: on the thread that does the work, at most once in SECONDS_APART."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before
