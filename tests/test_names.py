"""A public class or function has a name of its own, so that reading it says which one is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "fewtune"
BY_PROTOCOL = {"Settings", "load", "plan", "resolve", "skip_reason"}
"""What every task's or method's module defines."""
COMMANDS = {"main", "cli.audit.audit", "cli.fit.fit", "cli.pack.pack", "cli.recommend.recommend"}
"""Functions of the command line are called as what they run is."""
STANDALONE = "exporting/scripts"
"""Programs that export copies out of the project."""
VERBS_OF_THE_LIBRARY = {"api.fit", "engine.fit.fit"}


def test_no_public_name_stands_in_two_modules() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        module = path.relative_to(SOURCE).with_suffix("").as_posix()
        if module.startswith(STANDALONE):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                place = f"{module.replace('/', '.')}.{node.name}"
                if not {node.name, place} & (BY_PROTOCOL | COMMANDS | VERBS_OF_THE_LIBRARY):
                    places[node.name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
