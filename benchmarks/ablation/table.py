"""The levers as a Markdown table: seconds with and without each, and how many times faster it makes a work.

Owns the arithmetic from timings to figures. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.ablation.levers import LEVERS
from benchmarks.ablation.works import WORKS
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.table import measure_ratio, write_seconds

COLUMNS = ("lever", "work", "with s", "without s", "times faster")


def write_table(results: dict[str, Any]) -> str:
    """A row a lever and work that was timed both ways: medians, and least and most over the repeats."""
    rows = []
    for name, lever in LEVERS.items():
        for work in lever.works:
            on, off = find_timings(results["timings"], work, None), find_timings(results["timings"], work, name)
            if on and off:
                ratio, low, high = measure_ratio(off, on)
                title = WORKS[work][0].format(**results["size"])
                faster = f"{ratio:.2f} ({low:.2f}-{high:.2f})"
                rows.append((lever.title, title, write_seconds(on), write_seconds(off), faster))
    return f"{write_markdown(COLUMNS, rows)}\n\n{write_machine(results['machine'])}."


def find_timings(timings: Sequence[dict[str, Any]], work: str, lever: str | None) -> list[dict[str, Any]]:
    """A work's timings with a lever off, or with none off."""
    return [t for t in timings if (t["work"], t["lever"]) == (work, lever)]
