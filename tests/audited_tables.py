"""A table of results as a user would give it, audited.

Owns writing it to a file. Does not know what is found.
"""

from __future__ import annotations

from pathlib import Path

from fewtune.analysis.audit.finding import Finding
from fewtune.analysis.audit.table import audit_table


def audit_rows(folder: Path, header: str, *rows: str, majority: float | None = None) -> list[Finding]:
    """What the audit finds in a CSV file of these lines."""
    path = folder / "results.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return audit_table(path, majority).findings
