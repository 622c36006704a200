"""Writes CSV that fewtune's own reader and others parse into the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def write_csv_lines(lines: Iterable[Sequence[object]]) -> str:
    """Lines of cells as CSV, each ended by a line feed."""
    buffer = io.StringIO()
    plain = csv.writer(buffer, lineterminator="\n")
    quoted = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for line in lines:
        # Python 3.11's writer leaves a lone carriage return bare, and readers take it for the end of a line.
        returns = any("\r" in cell for cell in line if isinstance(cell, str))
        (quoted if returns else plain).writerow(line)
    return buffer.getvalue()
