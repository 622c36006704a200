"""Audit rule for interim looks at a race that nobody counted.

Owns the rule that a race's looks are told. Source: folders whose looks.json was lost, edited, or left out of a merge:
their bounds were given as if nobody had looked before.
"""

from __future__ import annotations

from collections.abc import Iterator

from fewtune.analysis.audit.finding import Evidence, Finding, ids_of
from fewtune.plurals import pluralise


def find_uncounted_looks(evidence: Evidence) -> Iterator[Finding]:
    """Races that looked at their trials more often than the folder tells."""
    for (task, shots), stopped in evidence.uncounted.items():
        told = f"looks.json does not tell of the looks at which the race stopped {pluralise(len(stopped), 'trial')}"
        yield Finding(
            rule="uncounted looks",
            severity="error",
            where=f"{task} · {pluralise(shots, 'shot')}",
            reason=told if stopped else "the study is a race, and no looks.json tells how often it was looked at",
            remedy="Bounds, and what is better, are given as for a look that nobody counts: they are wide, and few "
            "methods are told apart. Expected losses do not depend on looks. Put a copy of looks.json back; without "
            "one run the race again: it takes its looks anew.",
            trials=ids_of(stopped),
        )
