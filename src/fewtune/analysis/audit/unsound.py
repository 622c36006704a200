"""Audit rule for predictions from which no metric can be computed.

Owns the rule about them. Source: tables that another program wrote, or that were put together twice: their hashes fit,
and a mean over them is a number like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fewtune.analysis.audit.finding import Evidence, Finding, format_where, ids_of
from fewtune.plurals import pluralise
from fewtune.records import TABLE_FAULTS, Record, TableFault


def find_unsound_predictions(evidence: Evidence) -> Iterator[Finding]:
    """Trials whose predictions hold scores that are no numbers, or rows twice: they count as failed."""
    cells: dict[tuple[str, TableFault], list[Record]] = defaultdict(list)
    for record in evidence.records:
        if (fault := evidence.reader.unsound.get(record.trial_id)) is not None:
            cells[format_where(record), fault].append(record)
    for (where, fault), records in cells.items():
        yield Finding(
            rule="unsound predictions",
            severity="error",
            where=where,
            reason=f"predictions of {pluralise(len(records), 'trial')} hold {TABLE_FAULTS[fault]}: no figure is made "
            f"of {'it' if len(records) == 1 else 'them'}, and {'it counts' if len(records) == 1 else 'they count'} as "
            "failed",
            remedy="Something changed the predictions after the run. Run the study again: it repeats these trials "
            "alone. Or restore the folder from a copy.",
            trials=ids_of(records),
        )
