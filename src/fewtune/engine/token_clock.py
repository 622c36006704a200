"""Counts the tokens that networks have run in this process so far; read before and after to measure.

Owns the count. Whatever runs a network moves it on (`forward`); like time, it belongs to no trial.
"""

from __future__ import annotations

_run = 0


def advance(tokens: int) -> None:
    """Tell that a network runs so many tokens more."""
    global _run
    _run += tokens


def now() -> int:
    """Tokens run since the process began."""
    return _run
