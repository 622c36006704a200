"""One cell: a contender's model of one sample of one file, made in processes of its own, judged, and kept.

Owns what a record holds and where it lies. A record has figures and no text.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.race.results import describe_machine, describe_moment, write_results
from benchmarks.take_home.contenders import CONTENDERS, Contender
from benchmarks.take_home.embedding import name_embeddings
from benchmarks.take_home.files import LabelledFile, Row, Sample, count_majority, draw_sample
from benchmarks.take_home.ours import MODEL, is_saved, read_stated, write_command
from benchmarks.take_home.scores import place_labels, score_answers
from benchmarks.take_home.side import ANSWERS, ASKED, LABEL, MADE, NOT_TIMED, TEST, TRAIN, write_rows
from benchmarks.take_home.watched import Cap, Watched, watch
from fewtune.models import find_model
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "results" / "take-home"
CAP_SECONDS = 600.0
Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What is measured once."""

    file: str
    rows: int
    sample: int
    contender: str

    def place(self, folder: Path) -> Path:
        """Its record's file."""
        return folder / self.file / f"{self.rows}-{self.sample}-{self.contender}.json"


@dataclass(frozen=True)
class Circumstances:
    """How cells are made on this machine."""

    cap_seconds: float = CAP_SECONDS
    busy: bool = False
    """Whether the machine does other work too: seconds are then no figures, the cap counts processor time, and frozen
    encoders' embeddings are those that were made beforehand (`embedding`), where there are any."""
    pythons: Mapping[str, Path] = field(default_factory=dict)
    """By kind of contender, the Python of an environment of its own."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """By kind of contender, why it cannot be run here."""

    @property
    def cap(self) -> Cap:
        """What ends a cell."""
        return Cap(self.cap_seconds, self.busy)


def list_cells(files: Sequence[LabelledFile], contenders: Sequence[str], samples: int) -> list[Cell]:
    """All cells: small files first, and of each size every file and contender, so that a part of them is a picture."""
    return [
        Cell(file.name, file.sizes[step], sample, name)
        for step in range(max((len(file.sizes) for file in files), default=0))
        for sample in range(samples)
        for file in files
        if step < len(file.sizes)
        for name in contenders
        if CONTENDERS[name].suits(file.name, file.sizes[step])
    ]


def make_cell(cell: Cell, file: LabelledFile, here: Circumstances) -> Record:
    """Measure one cell; where no model comes of it the record says why."""
    contender, sample = CONTENDERS[cell.contender], draw_sample(file, cell.rows, cell.sample)
    record: Record = {**asdict(cell), **_describe_sample(file, sample), "busy": here.busy}
    if contender.kind in here.missing:
        return record | {"ended": "not run", "reason": here.missing[contender.kind]} | _describe_making(here)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_folder(folder, file, sample, contender, here)
        side = [str(here.pythons.get(contender.kind, sys.executable)), "-m", "benchmarks.take_home.side", scratch]
        variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        if contender.kind == "fewtune":
            made = watch(write_command(file.fields, contender.options), folder, here.cap, environment=variables)
            if made.ending != "capped" and is_saved(folder / MODEL):
                stated = read_stated(folder / MODEL)
                record |= {} if stated is None else {"stated": asdict(stated)}
                made = _join(made, watch(side, folder, Cap(CAP_SECONDS), folder / MADE, variables))
        else:
            offline = {"HF_HUB_OFFLINE": "1"}  # a peer's model lies in a folder, whatever else it would look for
            made = watch(side, folder, here.cap, folder / MADE, variables | offline)
        record |= _describe_making(here) | {
            "ended": made.ending,
            "seconds": round(made.seconds, 2),
            "processor_seconds": round(made.processor_seconds, 2),
            "peak_bytes": made.peak_bytes,
        }
        if made.ending == "done":
            return record | _judge(folder, file, sample)
        if made.ending == "failed":
            print(made.output[-4000:], flush=True)
            record["reason"] = name_failure(made.output)
    return record


def _join(made: Watched, answered: Watched) -> Watched:
    """The command that made the model, and whether the model could then answer."""
    return Watched(answered.ending, made.seconds, made.processor_seconds, made.peak_bytes, answered.output)


def name_failure(output: str) -> str:
    """The kind of the last exception that was told; no message, which may hold a row's text."""
    kinds = re.findall(r"^((?:\w+\.)*\w*(?:Error|Exception|Interrupt))\b", output, re.MULTILINE)
    return kinds[-1] if kinds else "the command refused, or ended without a word"


def keep_cell(cell: Cell, record: Record, results: Path) -> None:
    """Write a cell's record whole."""
    write_results(cell.place(results), record)


def read_records(results: Path) -> list[Record]:
    """All records, by file, rows, sample and contender."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/*.json"))]
    return sorted(found, key=lambda each: (each["file"], each["rows"], each["sample"], each["contender"]))


def measure_cells(
    cells: Sequence[Cell],
    files: Mapping[str, LabelledFile],
    results: Path,
    is_wanted: Callable[[Record | None], bool],
    has_time: Callable[[], bool],
    make: Callable[[Cell, LabelledFile], Record],
) -> int:
    """Make and keep the cells whose record, None where there is none, is wanted (again), while there is time.

    Returns how many are left.
    """
    waiting = [cell for cell in cells if is_wanted(_read_record(cell.place(results)))]
    for done, cell in enumerate(waiting):
        if not has_time():
            return len(waiting) - done
        record = make(cell, files[cell.file])
        keep_cell(cell, record, results)
        print(format_record(record), flush=True)
    return 0


def format_record(record: Record) -> str:
    """A cell in a line."""
    place = f"{record['file']} {record['rows']} rows, sample {record['sample']}, {record['contender']}"
    if record["ended"] != "done":
        return f"{place}: {record['ended']}" + (f" ({record['reason']})" if "reason" in record else "")
    return f"{place}: accuracy {record['accuracy']:.3f}, {record['seconds']:.0f} s"


def _read_record(path: Path) -> Record | None:
    if not path.is_file():
        return None
    found: Record = json.loads(path.read_text(encoding="utf-8"))
    return found


def _describe_sample(file: LabelledFile, sample: Sample) -> Record:
    return {
        "labels": len(file.labels),
        "labels_seen": len({row.label for row in sample.train}),
        "test_rows": len(sample.test),
        "majority": round(count_majority(sample.test), 4),
        "rows_sha256": sample.fingerprint,
    }


def _describe_making(here: Circumstances) -> Record:
    return {"cap_seconds": here.cap_seconds, "machine": describe_machine(usable_cores()), **describe_moment()}


def _write_folder(folder: Path, file: LabelledFile, sample: Sample, contender: Contender, here: Circumstances) -> None:
    def list_cells_of(rows: Sequence[Row], labelled: bool) -> list[tuple[str, ...]]:
        return [(*row.texts, row.label) if labelled else row.texts for row in rows]

    write_rows(folder / TRAIN, [*file.fields, LABEL], list_cells_of(sample.train, labelled=True))
    write_rows(folder / TEST, file.fields, list_cells_of(sample.test, labelled=False))
    asked = {
        "kind": contender.kind,
        "fields": file.fields,
        "labels": file.labels,
        "encoder": None if contender.encoder is None else str(find_model(contender.encoder).path),
        "kept_embeddings": str(name_embeddings(contender.encoder, file.name))
        if here.busy and contender.encoder
        else None,
        "timed": not here.busy,
        "cap_seconds": here.cap_seconds,
        "cap_by_processor": here.busy,
        "cores": usable_cores(),
    }
    (folder / ASKED).write_text(json.dumps(asked), encoding="utf-8")


def _judge(folder: Path, file: LabelledFile, sample: Sample) -> Record:
    gold = place_labels([row.label for row in sample.test], file.labels)
    with np.load(folder / ANSWERS) as answers:
        scores = score_answers(answers["probabilities"], answers["predicted"], gold)
        latency = float(answers["latency"])
    notes = json.loads((folder / MADE).read_text(encoding="utf-8"))["notes"]
    figures = {name: round(value, 6) for name, value in scores.items()}
    timed = {} if latency == NOT_TIMED else {"latency_seconds": round(latency, 6)}
    return {**figures, **timed, **({"notes": notes} if notes else {})}
