"""What a folder's first records say of a study that began there: the settings that were open before it ran.

Owns finding such a record. What is read from it is its readers' (`row_choice`, `precision_choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from fewtune.errors import FewtuneError
from fewtune.records import Record, list_written, load_record, load_records, record_path
from fewtune.records.packed_files import is_packed


def find_beginning(out: Path, fits: Callable[[Record], bool] = lambda record: True) -> Record | None:
    """A done record of a folder that fits, one of the earliest; None where there is none that can be read."""
    return next((record for record in _read(out) if record.status == "done" and fits(record)), None)


def _read(out: Path) -> Iterator[Record]:
    """A folder's records, the earliest written first; those that cannot be read are left out."""
    if not out.is_dir():
        return
    try:
        if is_packed(out):
            yield from load_records(out)
            return
    except FewtuneError:
        return
    for trial_id in sorted(written := list_written(out), key=written.__getitem__):
        try:
            yield load_record(record_path(out, trial_id))
        except FewtuneError:  # whoever opens the folder says what is wrong with it
            continue
