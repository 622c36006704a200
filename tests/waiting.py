"""Waiting for what another thread or process does, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so, so many seconds at most."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to be so"
        time.sleep(0.005)
