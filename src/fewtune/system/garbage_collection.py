"""Pauses Python's garbage collector while thousands of long-lived objects are made.

Owns that. An analysis makes millions of objects that live as long as it does; each search goes through all of them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for garbage only afterwards: thousands of records that stay would be looked through again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
