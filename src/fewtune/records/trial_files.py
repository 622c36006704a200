"""The files of one trial: its record `OUT/trials/ID.json` and its answers `OUT/predictions/ID.parquet`.

Owns how both are encoded, checked and written. Does not know which trials a study has (`folder`).
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fewtune.errors import RecordError
from fewtune.records.faults import PredictionsError, find_fault, find_table_fault, format_error, is_deep
from fewtune.records.files import write_atomically
from fewtune.records.schema import SCHEMA_VERSION, Record
from fewtune.records.version1 import convert_record

if TYPE_CHECKING:
    import polars as pl

PREDICTION_COLUMNS = ("test_set", "row_id", "gold", "predicted")
"""The columns of every trial's predictions, beside its labels' scores."""


def record_path(out: Path, trial_id: str) -> Path:
    return out / "trials" / f"{trial_id}.json"


def predictions_path(out: Path, trial_id: str) -> Path:
    return out / "predictions" / f"{trial_id}.parquet"


@dataclass(frozen=True)
class RecordFiles:
    """One trial's two files as they are to stand on disk; `predictions` is None where it has none."""

    trial_id: str
    record: bytes
    predictions: bytes | None


def encode_record(record: Record, predictions: pl.DataFrame | None = None) -> RecordFiles:
    """A record and its predictions as bytes; raises what cannot be encoded.

    `predictions` has the columns test_set, row_id, gold, predicted (label names) and one score_<label> for each
    label of the task (log-probabilities over the labels, float32).
    """
    table = None if predictions is None else encode_predictions(predictions)
    return RecordFiles(record.trial_id, record.model_dump_json(indent=1).encode() + b"\n", table)


def encode_predictions(predictions: pl.DataFrame) -> bytes:
    """A table of predictions as Parquet."""
    buffer = io.BytesIO()
    predictions.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def write_files(out: Path, files: RecordFiles) -> None:
    """Write one trial's files; the predictions first, so that a record never lacks them."""
    if files.predictions is not None:
        write_atomically(predictions_path(out, files.trial_id), files.predictions)
    write_atomically(record_path(out, files.trial_id), files.record)


def write_record(out: Path, record: Record, predictions: pl.DataFrame | None = None) -> None:
    """Write a record and its predictions, as `encode_record` takes them."""
    write_files(out, encode_record(record, predictions))


def load_record(path: Path) -> Record:
    """Read one record; raises RecordError naming the file where it is damaged, unsound or from a newer fewtune."""
    remedy = "Delete it and run the study again"
    return decode_record(path.read_bytes(), str(path), path.stem, remedy)


def decode_record(content: bytes, where: str, trial_id: str | None, remedy: str) -> Record:
    """A record from its JSON; `where` names it in errors, `remedy` says what to do, `trial_id` is whose it must be."""
    try:
        raw = json.loads(content)
        version = raw.get("schema_version")
        if version not in (1, SCHEMA_VERSION):
            raise RecordError(
                f"{where}: schema_version is {version}, this fewtune reads 1 and {SCHEMA_VERSION}. "
                "Use the fewtune that wrote it, or run the study again into a new folder."
            )
        record = None if is_deep(raw) else Record.model_validate(convert_record(raw) if version == 1 else raw)
    except (ValueError, AttributeError, RecursionError) as error:
        detail = f" ({format_error(error)})" if isinstance(error, ValidationError) else ""
        raise RecordError(f"{where}: damaged, or not a fewtune record{detail}. {remedy}.") from error
    fault = "nested too deeply" if record is None else find_fault(record)
    if record is not None and fault is None and trial_id is not None and record.trial_id != trial_id:
        fault = f"the record of another trial, {record.trial_id!r:.40}"
    if record is None or fault is not None:
        raise RecordError(f"{where}: no record that fewtune writes: {fault}. {remedy}: it repeats this trial alone.")
    return record


def read_predictions(path: Path) -> pl.DataFrame:
    """A trial's own file of predictions; raises RecordError where it cannot be one."""
    import polars as pl

    if not path.is_file():
        raise RecordError(f"{path}: the predictions of a finished trial are missing. Run the study again.")
    try:
        # From memory, which takes less than by its name: a study may have thousands of small ones.
        table = pl.read_parquet(path.read_bytes())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise RecordError(f"{path}: damaged predictions. Run the study again: its trial runs anew.") from error
    remedy = "Delete it and run the study again: it repeats this trial alone"
    return check_predictions(table, str(path), path.stem, remedy)


def check_predictions(table: pl.DataFrame, where: str, trial_id: str, remedy: str) -> pl.DataFrame:
    """The same table; raises RecordError where it cannot be a trial's, PredictionsError where its figures cannot.

    `where` names it in errors, `remedy` says what to do.
    """
    import polars as pl

    for name in PREDICTION_COLUMNS:
        if table.schema.get(name) != pl.String or table[name].has_nulls():
            raise RecordError(
                f"{where}: no predictions that fewtune writes: column {name} must hold texts, one a row. {remedy}."
            )
    fault = find_table_fault(table)
    if fault is not None:
        raise PredictionsError(where, trial_id, fault, remedy)
    return table
