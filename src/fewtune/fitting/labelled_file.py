"""Reads one labelled file into a task, with its columns and the test files that go with it.

Owns how a file is named to what reads it (`own_files`), and rows at hand written as one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fewtune.records import write_atomically
from fewtune.tasks import own_files
from fewtune.tasks.base import Task

LONGEST_NAME = 80
"""Characters of a file's name that stand in its study's."""


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled rows and which of its columns to read; None where only one choice is sensible."""

    train: Path
    text: tuple[str, ...] | None = None
    label: str | None = None
    tests: Mapping[str, Path] = field(default_factory=dict)
    """Files of test rows by name: `in_domain`, and any number out of domain."""
    conflicts: str = "drop"
    """What is done with rows of one text and different labels: drop or refuse."""
    missing: str = "refuse"
    """What is done with rows without a text or a label: drop or refuse."""
    metric: str | None = None
    """What candidates are compared by; None: accuracy, beyond two labels macro-F1."""

    def read(self, hold_out: bool = False) -> Task:
        """Its rows, each text once; raises DataError where it cannot be used.

        `hold_out`: for draws that hold some out to be tested on, which needs two rows of every label.
        """
        settings = TypeAdapter(own_files.Settings).validate_python(self.settings())
        return own_files.read_files(settings, hold_out=hold_out)

    def settings(self) -> dict[str, Any]:
        """The same as a study names it."""
        text = None if self.text is None else self.text[0] if len(self.text) == 1 else list(self.text)
        tests = {name: str(path) for name, path in self.tests.items()}
        named = {"text": text, "label": self.label, "conflicts": self.conflicts, "missing": self.missing}
        return {"train": str(self.train), **named, "metric": self.metric, "tests": tests}


def write_rows(rows: Sequence[Mapping[str, str]], labels: Sequence[str], path: Path) -> LabelledFile:
    """Rows at hand as a file that can be read like any other, JSON Lines; all rows have the texts of the first."""
    fields = tuple(rows[0])
    column = next(
        name for name in ("label", "label_", "label__") if name not in fields
    )  # of texts there are two at most
    lines = [json.dumps({**row, column: label}) for row, label in zip(rows, labels, strict=True)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return LabelledFile(path, fields, column)


def name_study(path: Path) -> str:
    """A study's name from a file's, short enough to be one with something behind it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:LONGEST_NAME].strip("-") or "rows"
