"""Reads lengths of time as users write them: 90s, 30m or 2h, and 50ms for an answer.

Owns the units.
"""

from __future__ import annotations

import math
import re

from fewtune.errors import FewtuneError, shorten

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_seconds(name: str, text: str) -> float:
    """Seconds from a number with s, m or h behind it; raises FewtuneError that calls it by its name."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*([smh])\s*", text)
    if found is None or float(found.group(1)) == 0:
        raise FewtuneError(f"{name} is {shorten(text)!r}; give a time above 0 such as 90s, 30m or 2h.")
    return float(found.group(1)) * UNITS[found.group(2)]


def parse_minutes(name: str, text: str) -> float:
    """The same in minutes."""
    return parse_seconds(name, text) / 60


def parse_latency(name: str, text: str) -> float:
    """Seconds of an answer, from a number with ms, s or nothing behind it; raises FewtuneError as `parse_seconds`."""
    number, unit = (text[:-2], 1e-3) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise FewtuneError(f"{name} is {shorten(text)!r}; give a time such as 50ms or 1s.")
    return seconds
