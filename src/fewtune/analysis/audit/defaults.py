"""Audit rules for methods' default settings: which tasks they were chosen on, and how many settings were tried.

Owns the rules about both. A trial notes them where it ran with its method's defaults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, ids_of
from fewtune.analysis.leaderboard import group_records
from fewtune.records import Record

LARGEST_RATIO = 2
"""How many times as many settings may have been tried for one method as for another."""


def find_defaults_of_this_task(evidence: Evidence) -> Iterator[Finding]:
    """Methods with defaults that were chosen on rows of the task they are compared on."""
    for members in group_records(evidence.done).values():
        chosen = [record for record in members if record.notes.defaults_tried.get(record.trial.task)]
        if chosen:
            names = sorted({record.trial.variant for record in chosen})
            yield Finding(
                rule="defaults of this task",
                severity="note",
                where=format_group(members),
                reason=f"the defaults of {', '.join(names)} were chosen on this task's training rows",
                remedy="What such defaults are worth shows on a task that chose none of them.",
                trials=ids_of(chosen),
            )


def find_unequal_defaults(evidence: Evidence) -> Iterator[Finding]:
    """Methods of one comparison for whose defaults far more was tried than for others'."""
    for members in group_records(evidence.done).values():
        tried: dict[str, int] = {}
        cells: dict[str, list[Record]] = defaultdict(list)
        for record in members:
            if record.notes.defaults_tried:
                tried[record.trial.variant] = max(record.notes.defaults_tried.values())
                cells[record.trial.variant].append(record)
        if tried and max(tried.values()) > LARGEST_RATIO * min(tried.values()):
            ordered = sorted(tried.items(), key=lambda item: (-item[1], item[0]))
            each = ", ".join(f"{name} {count}" for name, count in ordered)
            yield Finding(
                rule="unequal defaults",
                severity="note",
                where=format_group(members),
                reason=f"defaults were chosen from unequally many settings: {each}",
                remedy="Give every method a grid of one size (`tuning`), and each chooses on its own support.",
                trials=ids_of([record for name in tried for record in cells[name]]),
            )
