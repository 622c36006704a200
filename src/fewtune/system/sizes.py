"""Reads and writes sizes in bytes as users do: 900MiB, 2GiB or a number.

Owns the units.
"""

from __future__ import annotations

import re

from fewtune.errors import FewtuneError, shorten

UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_bytes(name: str, text: str) -> int:
    """Bytes from a number with a unit of 1000 (kB, MB, GB) or 1024 (KiB, MiB, GiB), or none.

    Raises FewtuneError that calls it by its name where it is none.
    """
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found.group(2) not in UNITS or float(found.group(1)) == 0:
        units = ", ".join(unit for unit in UNITS if unit)
        raise FewtuneError(
            f"{name} is {shorten(text)!r}; give a number of bytes above 0, of 18 digits at most, or one with a "
            f"unit: {units}."
        )
    return int(float(found.group(1)) * UNITS[found.group(2)])


def format_bytes(size: int) -> str:
    """Bytes as a user reads them: B, KiB, MiB or GiB."""
    if size < 2**10:
        return f"{size} B"
    mebibytes = size / 2**20
    if mebibytes < 1:
        return f"{size / 2**10:.0f} KiB"
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.2f} GiB"
