"""Tables as the documentation shows them, and the lines that say what was measured on which machine.

Owns the layout alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def write_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and all others to the right."""
    rule = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def write_machine(machine: dict[str, Any]) -> str:
    """The machine and the software of a result file, in one line."""
    packages = [f"{name} {version}" for name, version in machine["packages"].items() if version is not None]
    return f"{machine['processor']}, {machine['threads']} threads; " + ", ".join(packages)
