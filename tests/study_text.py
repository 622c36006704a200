"""Studies as texts, read over the fake tables: what tests of study files share.

Owns a good study, the least one, and the faults of one. Does not know what is claimed of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fewtune.errors import StudyError
from fewtune.study import Study, load_study

GOOD = """\
# yaml-language-server: $schema=study.schema.json
name: demo
models: [smollm2-135m, {name: facebook/opt-125m, revision: abc}, ./local/folder]
tasks: [sentiment, {mnli: {three_way: true}}, {own_files: {train: a.csv, text: review, as: reviews}}]
methods:
  - majority
  - in_context
  - in_context: {demonstrations: 0, as: zero-shot}
  - lora: {rank: 16, learning_rate: 1e-4}
shots: [16, 32]
data_seeds: {count: 3}
evaluation: {in_domain_rows: null}
"""


def read(folder: Path, text: str, overrides: Sequence[str] = ()) -> Study:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, overrides)


def find_faults(folder: Path, text: str, overrides: Sequence[str] = ()) -> list[tuple[int | None, str]]:
    with pytest.raises(StudyError) as caught:
        read(folder, text, overrides)
    return [(fault.line, fault.message) for fault in caught.value.faults]


def minimal(**changes: str) -> str:
    """A study on four lines: name, tasks, methods, shots; a change replaces or adds a line."""
    lines = {"name": "demo", "tasks": "[sentiment]", "methods": "[majority]", "shots": "[16]"} | changes
    return "".join(f"{key}: {value}\n" for key, value in lines.items())
