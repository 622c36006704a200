"""What one trial leaves behind: one JSON record and one Parquet file of per-row predictions.

Owns the schema, atomic writing and loading of `OUT/trials`, `OUT/predictions`, `OUT/study.yaml` and
`OUT/events.jsonl`. It is the only thing that running and analysing share, and imports without torch.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fewtune.errors import RecordError
from fewtune.record_faults import find_fault, is_deep, word_error

if TYPE_CHECKING:
    import polars as pl

SCHEMA_VERSION = 1

PREDICTION_COLUMNS = ("test_set", "row_id", "gold", "predicted")
"""The columns of every trial's predictions, beside its labels' scores."""

IN_DOMAIN = "in_domain"
"""The name of the in-domain test set in every record."""

PHASES = {
    "load": "task read and drawn, model read or restored",
    "tokenise": "texts to tokens and back, whatever for",
    "tune": "settings tried by cross-validation",
    "prepare": "plan made: network copied, teacher asked, prefix run, regression fitted",
    "fit": "the training loop",
    "score": "test rows scored; checkpoints and companions too",
    "other": "metrics, freed memory, the record made",
}
"""The phases that a trial's seconds fall into, in order, and what each means: every moment is in exactly one.

What a method does on its way to a plan is `prepare`, fits of its own included (a teacher tuned, a probe's regression):
only the one training loop is `fit`. Tokenising is taken out of every phase it happens in, tuning included; scoring and
fitting that tuning does is `tune`.
"""

Status = Literal["done", "skipped", "failed"]
FailureKind = Literal["diverged", "out_of_memory", "killed", "error"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(_Frozen):
    """A cell of the study's grid: what its draws and seeds repeat."""

    model: str | None = Field(description="Model name; None for methods that use no language model.")
    task: str
    variant: str = Field(description="The method's name in this study: tells two settings of one method apart.")
    shots: int = Field(description="Labelled rows in the support set, in total.")


class TrialAxes(Cell):
    """Where in the study's grid a record belongs."""

    method: str = Field(description="The method's registered name.")
    data_seed: int
    fit_seed: int
    pattern: str | None = Field(default=None, description="Pattern, where the study runs its methods under several.")
    settings: dict[str, Any] = Field(description="The method's settings, resolved: every field.")

    @property
    def cell(self) -> Cell:
        return Cell(model=self.model, task=self.task, variant=self.variant, shots=self.shots)


class Failure(_Frozen):
    """Why a trial was skipped or failed. `kind` is `skipped` or the kind of failure."""

    kind: FailureKind | Literal["skipped"]
    message: str
    trace: str | None = None


class Breakdown(_Frozen):
    """Accuracy over the rows of one test set that share a facet's value and a gold label."""

    test_set: str
    facet: str
    value: str
    gold: str
    rows: int
    accuracy: float


class Checkpoint(_Frozen):
    """What the test rows would have scored after an epoch of the fit: for analysis only, it never chooses weights."""

    epoch: int = Field(description="Epochs fitted.")
    metrics: dict[str, dict[str, float]] = Field(description="metrics[test set][metric].")


class Cost(_Frozen):
    """What the trial cost; None where it could not be measured, never zero for absence."""

    fit_seconds: float | None = Field(description="Preparing and fitting, model loading apart.")
    predict_seconds: float | None = Field(description="Scoring every test set.")
    predict_rows: int | None = Field(default=None, description="Test rows scored in `predict_seconds`.")
    load_seconds: float | None = Field(default=None, description="Reading or restoring the model.")
    peak_memory_bytes: int | None = Field(description="Most bytes this trial had allocated at once, model included.")
    resident_memory_bytes: int | None = Field(
        default=None,
        description="Most bytes the process really held at once during the trial, libraries and model included; on a "
        "GPU, most bytes reserved there. Records of earlier versions have none.",
    )
    trainable_parameters: int | None
    total_parameters: int | None
    fit_tokens: int | None = Field(description="Tokens run through the model while preparing and fitting.")
    predict_tokens: int | None = Field(description="Tokens run through the model while scoring.")


class Record(_Frozen):
    """Everything known about one trial; stands alone."""

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    trial: TrialAxes
    status: Status
    failure: Failure | None = None
    labels: list[str] = Field(default_factory=list, description="The task's label names, in order.")
    primary_metric: str = "accuracy"
    metrics: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="metrics[test set][metric]; test set `in_domain` or out of domain."
    )
    breakdowns: list[Breakdown] = Field(default_factory=list)
    baselines: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="baselines[test set]: `chance` (1 / labels) and `majority` (share of the commonest gold "
        "label) as accuracies, `rows` scored, `labels` that occur among them.",
    )
    checkpoints: list[Checkpoint] = Field(default_factory=list, description="Where the study asks for them.")
    cost: Cost | None = None
    environment: dict[str, Any] = Field(default_factory=dict, description="Versions, processor, threads, precision.")
    fingerprints: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of `weights`, `data` (the task's rows) and `draw` (this draw's rows).",
    )
    notes: dict[str, Any] = Field(
        default_factory=dict,
        description="What the method and engine report: label words and their tokens, losses, truncated rows …",
    )
    started_at: str | None = Field(default=None, description="UTC, ISO 8601.")
    phase_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="Wall seconds in each of PHASES, adding up to the trial's; empty where none were measured.",
    )

    @property
    def reusable(self) -> bool:
        """Whether a study may take this record instead of running the trial again."""
        return self.status == "done"


PART = ".part"
"""How the name of a file ends while it is being written; it begins with a dot."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: temporary file beside it, fsync, rename. An OSError names `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _name_path(error, path) from error


def _name_path(error: OSError, path: Path) -> OSError:
    """The same error, of the file that was to be written and not of a temporary one or of none."""
    return OSError(error.errno, error.strerror or str(error), str(path))


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
    table = None
    if predictions is not None:
        buffer = io.BytesIO()
        predictions.write_parquet(buffer, compression="zstd")
        table = buffer.getvalue()
    return RecordFiles(record.trial_id, record.model_dump_json(indent=1).encode() + b"\n", table)


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
    try:
        raw = json.loads(path.read_bytes())
        version = raw.get("schema_version")
        if version != SCHEMA_VERSION:
            raise RecordError(
                f"{path}: schema_version is {version}, this fewtune reads {SCHEMA_VERSION}. "
                "Use the fewtune that wrote it, or run the study again into a new folder."
            )
        record = None if is_deep(raw) else Record.model_validate(raw)
    except (ValueError, AttributeError, RecursionError) as error:
        detail = f" ({word_error(error)})" if isinstance(error, ValidationError) else ""
        raise RecordError(
            f"{path}: damaged, or not a fewtune record{detail}. Delete it and run the study again."
        ) from error
    fault = "nested too deeply" if record is None else find_fault(record)
    if record is not None and fault is None and record.trial_id != path.stem:
        fault = f"the record of another trial, {record.trial_id!r:.40}"
    if record is None or fault is not None:
        raise RecordError(
            f"{path}: no record that fewtune writes: {fault}. Delete it and run the study again: it repeats this trial "
            "alone."
        )
    return record


def load_records(out: Path, load: Callable[[Path], Record] = load_record) -> list[Record]:
    """Every record of an output folder, ordered by axes; raises RecordError where the folder holds none."""
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


def write_planned(out: Path, planned: Mapping[str, Cell]) -> None:
    """Write OUT/planned.json: the cell of every trial of the study as it stands, by trial id."""
    cells = {trial_id: cell.model_dump() for trial_id, cell in planned.items()}
    write_atomically(out / "planned.json", json.dumps(cells, indent=1).encode() + b"\n")


def load_planned(out: Path) -> dict[str, Cell] | None:
    """The study's trials as last planned, cell by trial id; None where the folder does not say."""
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


def _axes_order(record: Record) -> tuple[Any, ...]:
    t = record.trial
    return (t.task, t.model or "", t.shots, t.variant, t.data_seed, t.fit_seed, record.trial_id)


def load_predictions(out: Path, trial_id: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Per-row predictions of one trial: test_set, row_id, gold, predicted, score_<label> columns, or some of them."""
    import polars as pl

    path = predictions_path(out, trial_id)
    if not path.is_file():
        raise RecordError(f"{path}: the predictions of a finished trial are missing. Run the study again.")
    try:
        table = pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise RecordError(f"{path}: damaged predictions. Run the study again: its trial runs anew.") from error
    for name in PREDICTION_COLUMNS if columns is None else columns:
        if table.schema.get(name) != pl.String or table[name].has_nulls():
            raise RecordError(
                f"{path}: no predictions that fewtune writes: column {name} must hold texts, one a row. Delete it and "
                "run the study again: it repeats this trial alone."
            )
    return table


_ENTRIES: dict[str, TypeAdapter[Any]] = {
    "name": TypeAdapter(str),
    "metrics": TypeAdapter(list[str]),
    "tasks": TypeAdapter(list[str | Annotated[dict[str, dict[str, Any] | None], Field(min_length=1)]]),
    "equivalence": TypeAdapter(int | float | str),
}
"""The entries of a study that are read from its folder."""


def load_study_entry(out: Path, key: str) -> Any:
    """One entry of OUT/study.yaml as written there; None where the folder or the entry is missing.

    Raises RecordError where the file is damaged, or the entry cannot be one of a study.
    """
    path = out / "study.yaml"
    if not path.is_file():
        return None
    import yaml

    try:
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
        entry = study.get(key)
        return None if entry is None else _ENTRIES[key].validate_python(entry, strict=True)
    except ValidationError as error:
        raise RecordError(
            f"{path}: `{key}` is none that a study has ({word_error(error)}). Mend it, or delete that file and run the "
            "study again into this folder: finished trials are kept."
        ) from error
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{path}: damaged. Delete that file and run the study again into this folder: finished trials are kept."
        ) from error


def find_last_run(out: Path) -> float:
    """When the study was last run, UTC time in seconds; 0.0 where no event says so."""
    return max((float(event["time"]) for event in load_events(out) if event["event"] == "run"), default=0.0)


def load_events(out: Path) -> list[dict[str, Any]]:
    """Every event of OUT/events.jsonl: a finite `time`, a name `event`, its values.

    Lines that are none (half written when a process was killed or a disk full, or edited since) are passed over: they
    tell nothing, and no result is made of events.
    """
    path = out / "events.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    read = [_read_event(line) for line in lines]
    return [event for event in read if event is not None]


def _read_event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        known = isinstance(event, dict) and isinstance(event["event"], str) and type(event["time"]) in (int, float)
        return event if known and math.isfinite(event["time"]) else None
    except (ValueError, KeyError, RecursionError, OverflowError):
        return None


def append_event(out: Path, event: str, **values: Any) -> None:
    """Add one line to events.jsonl, whole or not at all: UTC time in seconds, the event's name, its values.

    An OSError names the file. One process at a time may add lines: the one that holds the folder.
    """
    path = out / "events.jsonl"
    line = json.dumps({"time": round(time.time(), 3), "event": event, **values}).encode() + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            # What an earlier command left half written must not take this line with it.
            line = b"\n" + line if size and os.pread(handle, 1, size - 1) != b"\n" else line
            try:
                whole = os.write(handle, line) == len(line)
            except OSError:
                os.ftruncate(handle, size)
                raise
            if not whole:
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise _name_path(error, path) from error
