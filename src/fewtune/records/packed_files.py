"""A finished study in two files: `OUT/records.jsonl` and `OUT/predictions.parquet`.

Owns their format. The first line of `records.jsonl` counts what follows and holds its hash and that of the other file;
then stand the study's events, a line each, and its records as they were written, a line each. The predictions of all
trials are one table, trial by trial, with a column `trial_id`; a label's score is null where a trial has no such label.
Does not know how a folder is packed (`packing`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from fewtune.errors import RecordError
from fewtune.records.faults import PredictionsError
from fewtune.records.notes import Count
from fewtune.records.schema import Cell, Record
from fewtune.records.trial_files import check_predictions, decode_record

if TYPE_CHECKING:
    import polars as pl

PACKED_RECORDS, PACKED_PREDICTIONS = "records.jsonl", "predictions.parquet"
VERSION = 1
ROWS_AT_ONCE = 1 << 17
"""Rows of predictions that are held at once: trials are mostly asked for in their order."""
REMEDY = f"Restore {PACKED_RECORDS} and {PACKED_PREDICTIONS} together, from version control or a copy"


class _Header(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    packed: Count
    events: Count
    records: Count
    lines_sha256: str
    predictions_sha256: str | None
    """None where no trial has predictions."""


@dataclass(frozen=True)
class PackedRecords:
    """What `records.jsonl` holds, whole: its lines as they stand, and the hash that the predictions must have."""

    path: Path
    events: tuple[str, ...]
    lines: tuple[bytes, ...]
    predictions_sha256: str | None

    def each(self) -> Iterator[Record]:
        """The records one at a time, in the file's order; raises RecordError where one is none."""
        for number, line in enumerate(self.lines, start=2 + len(self.events)):
            yield decode_record(line, f"{self.path}, line {number}", None, REMEDY)

    def records(self) -> list[Record]:
        """Every record, in the file's order; raises RecordError where one is none, or stands there twice."""
        records = list(self.each())
        twice = [trial_id for trial_id, times in Counter(r.trial_id for r in records).items() if times > 1]
        if twice:
            raise RecordError(f"{self.path}: trial {twice[0]:.40} stands in it twice. {REMEDY}.")
        return records

    def raw_records(self) -> dict[str, dict[str, Any]]:
        """Every record as it stands, by trial id."""
        return {raw["trial_id"]: raw for raw in map(json.loads, self.lines)}

    def cells(self) -> dict[str, Cell]:
        """The cell of every trial, by trial id."""
        return {record.trial_id: record.trial.cell for record in self.records()}


def is_packed(out: Path) -> bool:
    """Whether a folder holds a packed study."""
    return (out / PACKED_RECORDS).is_file()


def read_packed(out: Path) -> PackedRecords:
    """Read `records.jsonl`; raises RecordError where it is damaged, edited, or of a newer format."""
    path = out / PACKED_RECORDS
    opening, _, rest = path.read_bytes().partition(b"\n")
    try:
        raw = json.loads(opening)
        if isinstance(raw, dict) and type(raw.get("packed")) is int and raw["packed"] > VERSION:
            raise RecordError(
                f"{path}: packed in format {raw['packed']}, this fewtune reads {VERSION}. "
                "Use the fewtune that wrote it."
            )
        header = _Header.model_validate(raw)
    except (ValidationError, ValueError, RecursionError) as error:
        _refuse_damaged(path, error)
    lines = rest.split(b"\n")[:-1]
    if len(lines) != header.events + header.records or hashlib.sha256(rest).hexdigest() != header.lines_sha256:
        _refuse_damaged(path)
    events = [line.decode() for line in lines[: header.events]]
    return PackedRecords(path, tuple(events), tuple(lines[header.events :]), header.predictions_sha256)


def _refuse_damaged(path: Path, error: Exception | None = None) -> NoReturn:
    raise RecordError(f"{path}: damaged, or edited since it was packed. {REMEDY}.") from error


def encode_packed(events: Sequence[str], records: Sequence[bytes], predictions_sha256: str | None) -> bytes:
    """The content of `records.jsonl`, from lines without their ends and the hash of `predictions.parquet`."""
    rest = b"".join(line + b"\n" for line in [*(event.encode() for event in events), *records])
    header = _Header(
        packed=VERSION,
        events=len(events),
        records=len(records),
        lines_sha256=hashlib.sha256(rest).hexdigest(),
        predictions_sha256=predictions_sha256,
    )
    return header.model_dump_json().encode() + b"\n" + rest


def encode_tables(tables: Mapping[str, pl.DataFrame]) -> bytes:
    """The content of `predictions.parquet`, from each trial's table by its id."""
    import polars as pl

    named = [table.select(pl.lit(trial_id).alias("trial_id"), pl.all()) for trial_id, table in tables.items()]
    buffer = io.BytesIO()
    pl.concat(named, how="diagonal").write_parquet(buffer, compression="zstd", compression_level=9)
    return buffer.getvalue()


class PackedTables:
    """`predictions.parquet`, from which one trial's table at a time is asked for."""

    def __init__(self, path: Path, sha256: str | None) -> None:
        import polars as pl

        if sha256 is None or not path.is_file():
            raise RecordError(f"{path}: the predictions of the records beside it are missing. {REMEDY}.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise RecordError(f"{path}: damaged, or not of the records beside it. {REMEDY}.")
        self._path = path
        self._table = pl.scan_parquet(path, glob=False)
        runs = self._table.select(pl.col("trial_id").rle()).unnest("trial_id").collect()
        starts = runs["len"].cum_sum() - runs["len"]
        self._places = dict(zip(runs["value"], zip(starts, runs["len"], strict=True), strict=True))
        self._in_parts = set(runs["value"].filter(runs["value"].is_duplicated()))
        self._start, self._held = 0, pl.DataFrame()

    def read(self, trial_id: str) -> pl.DataFrame:
        """One trial's predictions; raises RecordError where there are none, or they cannot be a trial's."""
        if trial_id not in self._places:
            raise RecordError(f"{self._path}: no predictions of trial {trial_id}. {REMEDY}.")
        where = f"{self._path}, trial {trial_id}"
        if trial_id in self._in_parts:  # behind another's rows stand more of its own
            raise PredictionsError(where, trial_id, "rows", REMEDY)
        start, rows = self._places[trial_id]
        if not self._start <= start or start + rows > self._start + self._held.height:
            self._held = self._table.slice(start, max(rows, ROWS_AT_ONCE)).drop("trial_id").collect()
            self._start = start
        table = self._held.slice(start - self._start, rows)
        # A label that other trials have and this one has not.
        own = table.select(column for column in table if column.null_count() < rows) if rows else table
        return check_predictions(own, where, trial_id, REMEDY)
