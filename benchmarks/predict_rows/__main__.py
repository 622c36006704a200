"""How much memory answering a file takes as it grows, and rows a second beside Transformers' pipeline.

    python -m benchmarks.predict_rows        prints both and writes benchmarks/results/predict_rows.json
    python -m benchmarks.predict_rows --predictor DIR --exported DIR
                                             prints both of a saved model and its exported folder

Without folders a frozen SmolLM2 135M with a linear head is saved both ways. `--rows` are the lengths that memory is
measured at, `--paced` the rows that both sides are timed on, `--batches` the pipeline's batch sizes, of which the best
counts. On two cores the usual lengths take above an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT, run_apart, start_as_worker
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.predict_rows.material import write_rows
from benchmarks.predict_rows.side import COMMAND, FEWTUNE, PIPELINE, SAVE
from benchmarks.race.results import describe_machine, describe_moment

LENGTHS, PACED, BATCHES = (10_000, 100_000), 2_000, (1, 8, 32)
SIDE = "benchmarks.predict_rows.side"
RESULTS = ROOT / "benchmarks" / "results" / "predict_rows.json"


def measure_memory(predictor: Path, folder: Path, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """The command's processor seconds and peak memory in bytes, at each number of rows."""
    found = []
    for count in lengths:
        rows, out = folder / f"{count}.csv", folder / f"answers-{count}.csv"
        write_rows(rows, count)
        request = {"side": COMMAND, "folder": str(predictor), "rows": str(rows), "out": str(out)}
        found.append({"rows": count, **run_apart(SIDE, request)})
        out.unlink()
    return found


def measure_pace(predictor: Path, exported: Path, folder: Path, count: int, batches: Sequence[int]) -> dict[str, Any]:
    """Rows a second of both sides, the pipeline's at each batch size, and the share of rows with the same label."""
    rows = folder / "paced.csv"
    write_rows(rows, count)
    mine = _run_side({"side": FEWTUNE, "folder": str(predictor), "rows": str(rows)})
    theirs = {
        batch: _run_side({"side": PIPELINE, "folder": str(exported), "rows": str(rows), "batch": batch})
        for batch in batches
    }
    labels = mine.pop("labels")
    alike = [
        sum(map(str.__eq__, labels, found.pop("labels"))) / count  # label by label
        for found in theirs.values()
    ]
    return {
        "rows": count,
        "fewtune": mine,
        "pipeline": {str(batch): found for batch, found in theirs.items()},
        "same_label": min(alike),
    }


def _run_side(request: dict[str, Any]) -> dict[str, Any]:
    found = run_apart(SIDE, request)
    return {**found, "rows_a_second": round(found["rows"] / found["seconds"], 1)}


def write_table(results: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    memory = write_markdown(
        ("rows in the file", "peak memory", "processor time"),
        [
            [f"{each['rows']:,}", f"{each['peak_memory_bytes'] / 2**20:.0f} MiB", f"{each['processor_seconds']:.0f} s"]
            for each in results["memory"]
        ],
    )
    pace = results["pace"]
    sides = {"fewtune": pace["fewtune"]}
    sides |= {f"pipeline, batches of {batch}": found for batch, found in pace["pipeline"].items()}
    best = max(found["rows_a_second"] for found in pace["pipeline"].values())
    paced = write_markdown(
        ("side", "rows a second", "peak memory"),
        [
            [name, f"{found['rows_a_second']:.1f}", f"{found['peak_memory_bytes'] / 2**20:.0f} MiB"]
            for name, found in sides.items()
        ],
    )
    said = (
        f"{pace['rows']:,} rows: fewtune answers {pace['fewtune']['rows_a_second'] / best:.2f} times as many a second "
        f"as the pipeline at its best batch size, with the same label on {pace['same_label']:.1%} of them."
    )
    return f"{memory}\n\n{paced}\n\n{said}\n\n{write_machine(results['machine'])}."


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what was measured at the usual lengths of the usual classifier."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict_rows", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--predictor", type=Path, help="a folder that `fewtune fit` saved")
    parser.add_argument("--exported", type=Path, help="the same as a sequence classifier of Transformers")
    parser.add_argument("--rows", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--paced", type=int, default=PACED)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    given = parser.parse_args(arguments)
    if (given.predictor is None) != (given.exported is None):
        parser.error("--predictor and --exported are the same model saved both ways: give both, or neither")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        predictor, exported = given.predictor, given.exported
        if predictor is None:
            predictor, exported = folder / "predictor", folder / "exported"
            request = {"side": SAVE, "model": given.model, "predictor": str(predictor), "exported": str(exported)}
            run_apart(SIDE, request)
        found = {
            "model": given.model if given.predictor is None else given.predictor.name,
            "memory": measure_memory(predictor, folder, given.rows),
            "pace": measure_pace(predictor, exported, folder, given.paced, given.batches),
            "machine": describe_machine(os.cpu_count() or 1),
            **describe_moment(),
        }
    print(write_table(found))
    if given == parser.parse_args([]):
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    start_as_worker("benchmarks.predict_rows")
    main(sys.argv[1:])
