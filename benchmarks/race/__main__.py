"""The race's command: what is run, in which order, and where it is written.

Owns alternation and going on after an interruption. Every timing is a process of its own (`side`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT, run_apart
from benchmarks.race.results import (
    check_same_work,
    describe_machine,
    describe_moment,
    find_timings,
    open_results,
    write_results,
)
from benchmarks.race.table import write_table
from benchmarks.race.works import FULL, OURS, SMOKE, WORKS, Peer, Size
from fewtune.running.executors.process import WORKER_ENVIRONMENT
from fewtune.system.processor import usable_cores

RESULTS = ROOT / "benchmarks" / "results" / "race.json"

Runner = Callable[[dict[str, Any]], dict[str, Any]]


def run_side(request: dict[str, Any]) -> dict[str, Any]:
    """One side in a process of its own; fewtune's is set up as its workers are."""
    return run_apart("benchmarks.race.side", request, WORKER_ENVIRONMENT if request["side"] == OURS else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description="fewtune against its peers.")
    parser.add_argument("--only", action="append", choices=WORKS, metavar="WORK", help=f"one of {', '.join(WORKS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each side")
    parser.add_argument("--again", action="store_true", help="time anew what the results already hold")
    parser.add_argument("--smoke", action="store_true", help="a small version, once, into a temporary folder")
    parser.add_argument("--table", action="store_true", help="print the table of the results there are; run nothing")
    given = parser.parse_args(arguments)
    if given.table:
        print(write_table(json.loads(given.out.read_text(encoding="utf-8"))))
        return
    path = Path(tempfile.mkdtemp()) / "race.json" if given.smoke else given.out
    size, repeats = (SMOKE, 1) if given.smoke else (FULL, given.repeats)
    results = race(given.only or list(WORKS), size, repeats, usable_cores(), path, run_side, given.again)
    print(write_table(results))
    if given.smoke:
        print("\nThis was a smoke test: everything runs; its ratios say nothing about the race.")
    print(f"\nevery timing: {path}")


def race(
    works: Sequence[str], size: Size, repeats: int, threads: int, path: Path, run: Runner, again: bool = False
) -> dict[str, Any]:
    """Time every side of every work in turn; what is already in the file is not run again.

    Where a share of the machine's peak is asked, the peak is measured right after each of fewtune's timings: the pace
    of a machine moves.
    """
    results = open_results(path, describe_machine(threads), asdict(size), timings=[])
    if again:
        results["timings"] = [t for t in results["timings"] if t["work"] not in works]
    request = {"size": asdict(size), "threads": threads}
    for work in works:
        for repeat in range(min(repeats, WORKS[work].repeats or repeats)):
            for side in (*WORKS[work].peers, None):
                name, precision = (side.name, side.precision) if isinstance(side, Peer) else (OURS, None)
                if any(t["repeat"] == repeat for t in find_timings(results, work, name)):
                    continue
                found = run({**request, "work": work, "side": name, "precision": precision})
                if name == OURS and WORKS[work].share_of_peak is not None:
                    found["peaks"] = run({**request, "work": "peak", "side": "torch"})
                results["timings"].append({"work": work, "side": name, "repeat": repeat, **describe_moment(), **found})
                check_same_work([t for t in results["timings"] if t["work"] == work])
                write_results(path, results)
                print(f"{work}, {name}, repeat {repeat + 1}: {found['seconds']:.1f} s", flush=True)
    return results


if __name__ == "__main__":
    main()
