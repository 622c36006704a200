"""Starts processes that do not import the calling program's main module.

Owns the one way to start them. Python's own import the main module again, for functions that it defines; of fewtune's
none does, and a user's script needs no guard for that.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_main() -> Iterator[None]:
    """Let a process that starts inside import nothing of the program that asks."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
