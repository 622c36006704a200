"""The command: which points are measured, in which order, and where they are written.

Owns going on after an interruption. Every point is a process of its own (`point`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT, run_apart
from benchmarks.race.results import describe_machine, describe_moment, open_results, write_results
from benchmarks.scaling.chart import draw_scaling
from benchmarks.scaling.curves import CURVES, find_points
from benchmarks.scaling.table import write_tables
from fewtune.running.executors.process import WORKER_ENVIRONMENT
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"

Runner = Callable[[dict[str, Any]], dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked and print the tables, or draw the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="How time and memory grow.")
    parser.add_argument("--only", action="append", choices=CURVES, metavar="CURVE", help=f"one of {', '.join(CURVES)}")
    parser.add_argument("--epochs", type=int, default=3, help="epochs a point, the first apart; at least 2")
    parser.add_argument("--again", action="store_true", help="measure anew what the results already hold")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the result file")
    parser.add_argument("--table", action="store_true", help="print the tables of the results there are; run nothing")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the results there are; run nothing")
    given = parser.parse_args(arguments)
    if given.epochs < 2:
        parser.error("--epochs: at least 2, as the first stands apart")
    if given.chart is not None or given.table:
        results = json.loads(given.out.read_text(encoding="utf-8"))
        if given.chart is not None:
            given.chart.write_text(draw_scaling(results) + "\n", encoding="utf-8")
        if given.table:
            print(write_tables(results))
        return
    run = partial(run_apart, "benchmarks.scaling.point", environment=WORKER_ENVIRONMENT)
    print(write_tables(sweep(given.only or list(CURVES), given.epochs, usable_cores(), given.out, run, given.again)))


def sweep(
    curves: Sequence[str], epochs: int, threads: int, path: Path, run: Runner, again: bool = False
) -> dict[str, Any]:
    """Measure every point of some curves; what is already in the file is not measured again."""
    results = open_results(path, describe_machine(threads), {"epochs": epochs}, points=[])
    if again:
        results["points"] = [p for p in results["points"] if p["curve"] not in curves]
    for curve in curves:
        for value in CURVES[curve].values:
            for work in CURVES[curve].works:
                if any(p["value"] == value for p in find_points(results["points"], curve, work)):
                    continue
                asked = {"curve": curve, "value": value, "work": work}
                found = run({**asked, "epochs": epochs, "threads": threads})
                results["points"].append({**asked, **describe_moment(), **found})
                write_results(path, results)
                print(f"{curve} {value}, {work}: {found['seconds']:.2f} s", flush=True)
    return results


if __name__ == "__main__":
    main()
