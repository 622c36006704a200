"""The table of kinds: what is thrown, which finding it belongs to, and how its cases are made.

Owns the table alone: each family's module has its kinds.
"""

from __future__ import annotations

from benchmarks.attack import claims, data_files, disk, folders, models, numbers, saved_models, served, studies, words
from benchmarks.attack.case import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for family in (models, saved_models, studies, data_files, folders, claims, words, numbers, served, disk)
    for kind in family.KINDS
}
"""Every kind by its name, family by family."""

QUICK = (
    "weights missing, renamed, unexpected, mis-shaped",
    "studies nested thousands of levels deep",
    "JSON Lines deep, broken or of another type",
    "tables of results for audit --table",
    "keys twice in a request",
)
"""Kinds of the quick version: of those whose cases need no finished study and no trial."""
