"""How much memory answering a file takes as it grows, and rows a second beside Transformers' pipeline.

    python -m benchmarks.predict_rows        prints both and writes benchmarks/results/predict_rows.json
    python -m benchmarks.predict_rows --only pace
                                             the same, with memory's figures kept as they are there
    python -m benchmarks.predict_rows --predictor DIR --exported DIR
                                             prints both of a saved model and its exported folder

Without folders a frozen SmolLM2 135M with a linear head is saved both ways. `--rows` are the lengths that memory is
measured at, `--paced` the rows that both sides are timed on, `--batches` the pipeline's batch sizes, of which the best
counts: in the precision that the exported folder has, which a user gets who names none, and in the one that fewtune
takes. On two cores memory at the usual lengths takes above an hour; it needs no machine of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT, run_apart, start_as_worker
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.predict_rows.material import write_rows
from benchmarks.predict_rows.side import COMMAND, FEWTUNE, PIPELINE, SAVE
from benchmarks.race.results import describe_machine, describe_moment

LENGTHS, PACED, BATCHES = (10_000, 100_000), 1_000, (1, 8, 32)
PARTS = ("memory", "pace")
PRECISIONS = ("as exported", "as fewtune")
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
    """Rows a second of both sides, the pipeline's at each precision and batch size, and how many get one label."""
    rows = folder / "paced.csv"
    write_rows(rows, count)
    mine = _run_side({"side": FEWTUNE, "folder": str(predictor), "rows": str(rows)})
    labels = mine.pop("labels")
    theirs = []
    for precision, batch in product(PRECISIONS, batches):
        asked = {"precision": precision, "batch": batch}
        found = _run_side({"side": PIPELINE, "folder": str(exported), "rows": str(rows), **asked})
        alike = sum(map(str.__eq__, labels, found.pop("labels"))) / count  # label by label
        theirs.append({**asked, **found, "same_label": alike})
    return {"rows": count, "fewtune": mine, "pipeline": theirs}


def _run_side(request: dict[str, Any]) -> dict[str, Any]:
    found = run_apart(SIDE, request)
    return {**found, "rows_a_second": round(found["rows"] / found["seconds"], 1)}


def write_table(results: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    parts = [
        write(results[name]) for name, write in (("memory", _write_memory), ("pace", _write_pace)) if name in results
    ]
    return "\n\n".join([*parts, f"{write_machine(results['machine'])}."])


def _write_memory(measured: Sequence[dict[str, Any]]) -> str:
    return write_markdown(
        ("rows in the file", "peak memory", "processor time"),
        [
            [f"{each['rows']:,}", f"{each['peak_memory_bytes'] / 2**20:.0f} MiB", f"{each['processor_seconds']:.0f} s"]
            for each in measured
        ],
    )


def _write_pace(pace: dict[str, Any]) -> str:
    sides = {"fewtune": pace["fewtune"]}
    sides |= {
        f"pipeline, precision {found['precision']}, batches of {found['batch']}": found for found in pace["pipeline"]
    }
    paced = write_markdown(
        ("side", "rows a second", "peak memory"),
        [
            [name, f"{found['rows_a_second']:.1f}", f"{found['peak_memory_bytes'] / 2**20:.0f} MiB"]
            for name, found in sides.items()
        ],
    )
    mine = pace["fewtune"]["rows_a_second"]
    best = {
        precision: max(found["rows_a_second"] for found in pace["pipeline"] if found["precision"] == precision)
        for precision in PRECISIONS
    }
    times = " and ".join(f"{mine / rate:.2f} times ({precision})" for precision, rate in best.items())
    said = (
        f"{pace['rows']:,} rows: fewtune answers {times} as many a second as the pipeline at its best batch size, with "
        f"the same label on {min(found['same_label'] for found in pace['pipeline']):.1%} of them at least."
    )
    return f"{paced}\n\n{said}"


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what was measured at the usual lengths of the usual classifier."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict_rows", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="the part to measure")
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
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if given.only and RESULTS.is_file() else {}
        found = kept | {
            "model": given.model if given.predictor is None else given.predictor.name,
            "machine": describe_machine(os.cpu_count() or 1),
            **describe_moment(),
        }
        if given.only != "pace":
            found["memory"] = measure_memory(predictor, folder, given.rows)
        if given.only != "memory":
            found["pace"] = measure_pace(predictor, exported, folder, given.paced, given.batches)
    if given == parser.parse_args(["--only", given.only] if given.only else []):
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(write_table(found))


if __name__ == "__main__":
    start_as_worker("benchmarks.predict_rows")
    main(sys.argv[1:])
