"""A study as written: plain values, the line of each, and the faults found so far.

Owns noting a fault where it stands, and how values and places are worded. Does not know which keys a study has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fewtune.errors import Fault, shorten

LARGEST_INTEGER = 2**63 - 1
"""What an integer of 64 bits holds, as records do."""

Steps = tuple[str | int, ...]
"""Where a value stands in a study: keys and list positions, outermost first."""


@dataclass
class Draft:
    """A study as written: plain values, where each stands, and the faults found so far."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Steps, int] = field(default_factory=dict)
    overrides: dict[Steps, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: int = 0
    """Values read so far."""
    characters: int = 0
    """Characters of the values read so far."""

    def refuse(self, steps: Steps, message: str) -> None:
        """Note a fault at the innermost place that is known: a line, or the override that gave the value."""
        for length in range(len(steps), 0, -1):
            place = steps[:length]
            if place in self.overrides:
                self.faults.append(Fault(f"--set {shorten(self.overrides[place])}: {message}"))
                return
            if place in self.lines:
                self.faults.append(Fault(message, self.lines[place]))
                return
        self.faults.append(Fault(message))

    def describe_place(self, steps: Steps) -> str:
        """The line of a value, in words; empty where an override gave it."""
        return f" (first on line {self.lines[steps]})" if steps in self.lines else ""


def name_kind(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return show_value(value)


def show_value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def join_steps(steps: Steps) -> str:
    return ".".join(str(step) for step in steps)
