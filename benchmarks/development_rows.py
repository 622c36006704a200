"""A task's training rows, split in two as an own-files task: settings are tried on them, so no test row chooses one.

python benchmarks/development_rows.py sentiment /tmp/dev [DATA_DIR]      writes /tmp/dev/train.jsonl and test.jsonl

Half of the training rows become the training file, at most 600 of the others the test file, chosen by their text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fewtune.tasks import get_task_module
from fewtune.tasks.base import Example, Task
from fewtune.tasks.texts import text_fraction

TEST_ROWS = 600


def write_development_rows(task_name: str, folder: Path, data_dir: Path | None) -> None:
    """Write the two files; labels by name, texts by field."""
    module = get_task_module(task_name)
    task = module.load(module.Settings(), data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "test"), split_rows(task), strict=True):
        (folder / f"{name}.jsonl").write_text("".join(write_row(row, task.labels) for row in rows), encoding="utf-8")


def split_rows(task: Task) -> tuple[list[Example], list[Example]]:
    """A task's training rows, as rows to train on and others to test on."""
    ordered = sorted(task.train, key=text_fraction)
    half = len(ordered) // 2
    return ordered[:half], ordered[half:][:TEST_ROWS]


def write_row(row: Example, labels: tuple[str, ...]) -> str:
    """One JSON line: the texts by field name, and the label by its name."""
    assert row.label is not None
    return json.dumps({**row.fields, "label": labels[row.label]}) + "\n"


if __name__ == "__main__":
    write_development_rows(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
