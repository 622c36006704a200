"""Lengths of time as users write them: 90s, 30m or 2h.

Owns the units.
"""

from __future__ import annotations

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
