"""Reads the output folder of a study.

Owns what counts there: the trials that the study has, their records, predictions and events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import RecordError
from fewtune.records import events
from fewtune.records.files import write_atomically
from fewtune.records.packed_files import PACKED_PREDICTIONS, PACKED_RECORDS, PackedTables, is_packed, read_packed
from fewtune.records.schema import Cell, Record
from fewtune.records.trial_files import load_record, predictions_path, read_predictions

if TYPE_CHECKING:
    import polars as pl


def load_records(out: Path, load: Callable[[Path], Record] = load_record) -> list[Record]:
    """Every record of an output folder, ordered by axes; raises RecordError where the folder holds none.

    `load` reads a trial's own file; a packed study has none.
    """
    if is_packed(out):
        return sorted(read_packed(out).records(), key=_axes_order)
    folder = out / "trials"
    planned = load_planned(out)
    if planned is None and not folder.is_dir():
        raise RecordError(f"{out}: no `trials` folder here. Give the folder that `fewtune run` wrote (its --out).")
    # Records of trials the study no longer has (its data or settings changed) lie here too: they do not count.
    paths = [p for p in sorted(folder.glob("*.json")) if planned is None or p.stem in planned]
    records = [load(path) for path in paths]
    if not records:
        raise RecordError(f"{out}: no trial of the study has finished yet. `fewtune run` goes on where it stopped.")
    return sorted(records, key=_axes_order)


def _axes_order(record: Record) -> tuple[Any, ...]:
    t = record.trial
    return (t.task, t.model or "", t.shots, t.variant, t.data_seed, t.fit_seed, record.trial_id)


def write_planned(out: Path, planned: Mapping[str, Cell]) -> None:
    """Write OUT/planned.json: the cell of every trial of the study as it stands, by trial id."""
    cells = {trial_id: cell.model_dump() for trial_id, cell in planned.items()}
    write_atomically(out / "planned.json", json.dumps(cells, indent=1).encode() + b"\n")


def load_planned(out: Path) -> dict[str, Cell] | None:
    """The study's trials as last planned, cell by trial id; None where the folder does not say."""
    if is_packed(out):
        return read_packed(out).cells()
    path = out / "planned.json"
    if not path.is_file():
        return None
    try:
        cells = {trial_id: Cell.model_validate(cell) for trial_id, cell in json.loads(path.read_bytes()).items()}
        if not cells or any(cell.shots < 1 for cell in cells.values()):
            raise ValueError("no trial, or shots below 1")
        return cells
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{path}: damaged, or of another fewtune. Run the study again: finished trials are kept."
        ) from error


class StudyPredictions:
    """The predictions of a folder's trials, asked for one trial at a time; whichever way they lie there then."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._tables: PackedTables | None = None
        self._opened: tuple[int, int] | None = None

    def __call__(self, trial_id: str) -> pl.DataFrame:
        """One trial's test_set, row_id, gold, predicted and score_<label> columns; raises RecordError."""
        if not is_packed(self._out):
            return read_predictions(predictions_path(self._out, trial_id))
        found = (self._out / PACKED_RECORDS).stat()
        stamp = (found.st_mtime_ns, found.st_ino)  # another one where the study was packed again since
        if self._tables is None or self._opened != stamp:
            self._tables = PackedTables(self._out / PACKED_PREDICTIONS, read_packed(self._out).predictions_sha256)
            self._opened = stamp
        return self._tables.read(trial_id)


def load_predictions(out: Path, trial_id: str) -> pl.DataFrame:
    """Per-row predictions of one trial; of many trials `StudyPredictions` reads faster."""
    return StudyPredictions(out)(trial_id)


def list_written(out: Path) -> dict[str, float]:
    """When each trial's record was written, by trial id, UTC time in seconds; of records outside the study too."""
    if is_packed(out):
        written = (out / PACKED_RECORDS).stat().st_mtime
        return dict.fromkeys(read_packed(out).raw_records(), written)
    return {path.stem: path.stat().st_mtime for path in (out / "trials").glob("*.json")}


def find_event_lines(out: Path) -> list[str]:
    """The lines of a folder's events: those packed with its records first, then those since."""
    packed = read_packed(out).events if is_packed(out) else ()
    # What packing or unpacking left when it was ended stands in both.
    return list(dict.fromkeys([*packed, *events.read_lines(out)]))


def load_events(out: Path) -> list[dict[str, Any]]:
    """Every event of a folder, oldest first."""
    return events.parse_events(find_event_lines(out))


def find_last_run(out: Path) -> float:
    """When the study was last run, UTC time in seconds; 0.0 where no event says so."""
    return max((float(event["time"]) for event in load_events(out) if event["event"] == "run"), default=0.0)
