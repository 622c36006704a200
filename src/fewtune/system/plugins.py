"""Finds methods and tasks that other installed packages add, by entry points.

Owns reading them: the groups `fewtune.methods` and `fewtune.tasks`, each entry a name and the module that holds it, as
the tables of our own have them. Nothing is imported before a study names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from fewtune.errors import FewtuneError


def add_plugins(own: Mapping[str, str], group: str, what: str) -> dict[str, str]:
    """Our own table with what installed packages add to it; raises FewtuneError where a name is taken already."""
    table, origins = dict(own), dict.fromkeys(own, "fewtune itself")
    for entry in sorted(entry_points(group=group), key=lambda each: each.name):
        origin = entry.dist.name if entry.dist is not None else entry.value
        if entry.name in table and table[entry.name] != entry.value:
            raise FewtuneError(
                f"the installed package {origin} adds a {what} {entry.name!r}, a name that {origins[entry.name]} has. "
                f"Uninstall it (pip uninstall {origin}), or let it choose another name."
            )
        table[entry.name], origins[entry.name] = entry.value, origin
    return table
