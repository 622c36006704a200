"""Reads from a folder's records the settings that its first run chose where the study left them open.

Owns finding such a record. What is read from it is its readers' (`row_choice`, `precision_choice`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fewtune.errors import RecordError
from fewtune.records import Record, is_packed, list_written, load_planned, load_record, read_packed, record_path


def find_beginning(out: Path, with_model: bool = False) -> Record | None:
    """A done record of a folder's study, of a trial with a model if so said; None where none can be read."""
    for record in _read(out, with_model):
        if record.status == "done" and (record.trial.model is not None or not with_model):
            return record
    return None


def _read(out: Path, with_model: bool) -> Iterator[Record]:
    """A folder's records one at a time, those that cannot be read left out: whoever opens the folder tells of them.

    Of a study without a list of its trials all that lie there, the earliest written first.
    """
    if is_packed(out):
        with contextlib.suppress(RecordError):
            yield from read_packed(out).each()
        return
    try:
        planned = load_planned(out)
    except RecordError:
        planned = None
    written = list_written(out)
    asked = sorted(written, key=written.__getitem__)
    if planned is not None:
        fitting = (trial_id for trial_id, cell in planned.items() if cell.model is not None or not with_model)
        asked = [trial_id for trial_id in fitting if trial_id in written]
    for trial_id in asked:
        with contextlib.suppress(RecordError):
            yield load_record(record_path(out, trial_id))
