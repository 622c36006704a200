"""Packs a study's folder into two files, and unpacks it.

Owns the order of writing and removing: whatever ends it, the folder holds one whole form of the study. While both lie
there they are equal, and the packed one is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.errors import RecordError
from fewtune.plurals import pluralise
from fewtune.records import events
from fewtune.records.faults import PredictionsError
from fewtune.records.files import write_atomically
from fewtune.records.packed_files import (
    PACKED_PREDICTIONS,
    PACKED_RECORDS,
    PackedTables,
    encode_packed,
    encode_tables,
    is_packed,
    read_packed,
)
from fewtune.records.study_folder import find_event_lines, load_planned, load_records, write_planned
from fewtune.records.trial_files import (
    RecordFiles,
    encode_predictions,
    predictions_path,
    read_predictions,
    record_path,
    write_files,
)

if TYPE_CHECKING:
    import polars as pl


def pack_study(out: Path) -> int:
    """Pack a finished study and return how many trials it has; raises RecordError where it cannot be.

    Records are packed as they stand, whatever their version; what belongs to no trial of the study stays where it is.
    """
    if is_packed(out):
        if not _remove_copies(out):
            raise RecordError(f"{out} is packed already.")
        return len(read_packed(out).lines)
    records, planned = load_records(out), load_planned(out)
    if planned is not None and len(records) < len(planned):
        raise RecordError(
            f"{out}: {len(planned) - len(records)} of {pluralise(len(planned), 'trial')} have no record yet. Run the "
            "study to its end, then pack it."
        )
    done = [record.trial_id for record in records if record.status == "done"]
    tables = {trial_id: read_predictions(predictions_path(out, trial_id)) for trial_id in done}
    try:
        sha256 = _write_tables(out, tables) if tables else None
        lines = [_shorten(record_path(out, record.trial_id).read_bytes()) for record in records]
        write_atomically(out / PACKED_RECORDS, encode_packed(find_event_lines(out), lines, sha256))
    except BaseException:
        (out / PACKED_PREDICTIONS).unlink(missing_ok=True)  # without the records it is nothing
        raise
    _remove_copies(out)
    return len(records)


def unpack(out: Path) -> None:
    """Put a packed study back into a file a trial, to which trials can be added.

    Predictions of which no figure can be made are left behind: their trials run again.
    """
    packed = read_packed(out)
    records = packed.records()
    tables = PackedTables(out / PACKED_PREDICTIONS, packed.predictions_sha256) if packed.predictions_sha256 else None
    try:
        for record, line in zip(records, packed.lines, strict=True):
            table = None
            if record.status == "done" and tables is not None:
                with contextlib.suppress(PredictionsError):
                    table = encode_predictions(tables.read(record.trial_id))
            write_files(out, RecordFiles(record.trial_id, _lengthen(line), table))
        write_planned(out, {record.trial_id: record.trial.cell for record in records})
        lines = find_event_lines(out)
        write_atomically(out / events.EVENTS, "".join(line + "\n" for line in lines).encode())
    except BaseException:
        _remove_copies(out)
        raise
    (out / PACKED_RECORDS).unlink()
    (out / PACKED_PREDICTIONS).unlink(missing_ok=True)


def _write_tables(out: Path, tables: Mapping[str, pl.DataFrame]) -> str:
    """Write all predictions as one file and return its hash; raises RecordError where a trial's would not come back."""
    content = encode_tables(tables)
    sha256 = hashlib.sha256(content).hexdigest()
    write_atomically(out / PACKED_PREDICTIONS, content)
    written = PackedTables(out / PACKED_PREDICTIONS, sha256)
    for trial_id, table in tables.items():
        if not written.read(trial_id).select(table.columns).equals(table):
            path = predictions_path(out, trial_id)
            raise RecordError(f"{path}: its table would not come back from a packed one as it is. Nothing is packed.")
    return sha256


def _remove_copies(out: Path) -> bool:
    """Remove what a packed study holds from beside it; whether there was anything."""
    packed = read_packed(out)
    ids = packed.raw_records()
    copies = [*(record_path(out, each) for each in ids), *(predictions_path(out, each) for each in ids)]
    copies.append(out / "planned.json")
    if set(events.read_lines(out)) <= set(packed.events):
        copies.append(out / events.EVENTS)
    found = [path for path in copies if path.is_file()]
    for path in found:
        path.unlink()
    for folder in (out / "trials", out / "predictions"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return bool(found)


def _shorten(content: bytes) -> bytes:
    return json.dumps(json.loads(content), separators=(",", ":"), ensure_ascii=False).encode()


def _lengthen(line: bytes) -> bytes:
    return json.dumps(json.loads(line), indent=1, ensure_ascii=False).encode() + b"\n"
