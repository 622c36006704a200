"""Chooses the precision of a folder's trials where a study leaves it open (`precision: auto`).

Owns that a study goes on in the precision it began with, on a machine that would choose another. What a machine would
choose is `models.precision`.
"""

from __future__ import annotations

from pathlib import Path

from fewtune.running.previous_run import find_beginning
from fewtune.study import Study


def recall_precision(study: Study, out: Path) -> Study:
    """The study with the precision of the trials that its folder holds; as it is where there are none, or it says."""
    if study.precision != "auto" or not study.models:
        return study
    record = find_beginning(out, with_model=True)
    said = None if record is None else record.environment.get("precision")
    return study.model_copy(update={"precision": said}) if said in ("bfloat16", "float32") else study
