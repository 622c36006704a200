"""One side answers a file of rows in a process of its own: fewtune, or Transformers' text-classification pipeline.

Owns what is timed: from the first row read to the last one answered, loading apart. Both read the file row by row.
The peak of memory is the process's own (VmHWM): what `wait4` tells of a child is no less than its parent's.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.apart import answer_request

FEWTUNE, PIPELINE, COMMAND, SAVE = "fewtune", "pipeline", "command", "save"


def do(request: dict[str, Any]) -> dict[str, Any]:
    """Answer by a side, run the whole command, or save the usual classifier, as the request says."""
    if request["side"] == SAVE:
        from benchmarks.predict_rows.material import save_classifier

        save_classifier(request["model"], Path(request["predictor"]), Path(request["exported"]))
        return {}
    return run_command(request) if request["side"] == COMMAND else answer(request)


def run_command(request: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the processor and peak memory in bytes of `fewtune predict` on a file."""
    from fewtune.cli.app import main

    try:
        main(["predict", request["folder"], request["rows"], "--out", request["out"]])
    except SystemExit as ended:
        if ended.code:
            raise
    return {"processor_seconds": round(time.process_time(), 1), "peak_memory_bytes": read_peak()}


def read_peak() -> int:
    """The most bytes of memory that this process has held."""
    (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return int(found) * 1024


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Rows, seconds to load and to answer, the process's peak memory in bytes, and the label of each row."""
    run = {FEWTUNE: _answer_by_fewtune, PIPELINE: _answer_by_pipeline}[request["side"]]
    started = time.perf_counter()
    answers = run(request)
    next(answers)
    loaded = time.perf_counter()
    labels = list(answers)
    return {
        "rows": len(labels),
        "load_seconds": round(loaded - started, 2),
        "seconds": round(time.perf_counter() - loaded, 3),
        "peak_memory_bytes": read_peak(),
        "labels": labels,
    }


def _answer_by_fewtune(request: dict[str, Any]) -> Iterator[str]:
    import fewtune
    from fewtune.predictors.answers import answer_rows
    from fewtune.predictors.rows import open_texts

    predictor = fewtune.load(request["folder"])
    yield ""  # loaded
    with open_texts(Path(request["rows"]), predictor.fields) as rows:
        for answers in answer_rows(predictor, rows):
            yield from (each.label or "" for each in answers)


def _answer_by_pipeline(request: dict[str, Any]) -> Iterator[str]:
    from transformers import pipeline

    from fewtune.models import find_device, resolve_precision

    dtype = resolve_precision("auto") if request["precision"] == "as fewtune" else "auto"
    classify: Any = pipeline("text-classification", model=request["folder"], device=find_device(), dtype=dtype)
    yield ""  # loaded

    def read() -> Iterator[str]:
        with Path(request["rows"]).open(encoding="utf-8", newline="") as stream:
            yield from (row["text"] for row in csv.DictReader(stream))

    for each in classify(read(), batch_size=request["batch"], truncation=True):
        yield each["label"]


if __name__ == "__main__":
    answer_request(do)
