"""The study of seven methods (`make demo` ran it until 2026-11-27) under two commits' code, in turn.

python -m benchmarks.demo BEFORE AFTER [--repeats 3]   adds a comparison to benchmarks/results/demo.json

Each run is a process of its own with a new folder, from the command to its report. Comparisons of other commits or
machines stay in the file. Of the code after, the run's records say where its seconds went, and how many of them the
products of the model's linear layers alone would take at the machine's peak, the most that PyTorch reached right after
it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from benchmarks.race.table import measure_ratio, write_seconds
from benchmarks.run_seconds import COLUMNS, look_at_run, write_cells
from benchmarks.since import write_for

SIDES = ("before", "after")
STUDY = ROOT / "studies" / "seven-methods.yaml"
FILE = ROOT / "benchmarks" / "results" / "demo.json"


def time_demo(tree: Path, out: Path) -> float:
    """Seconds of the study run by the code of a tree, its records in `out`."""
    study = write_for(tree, STUDY, out.with_name(f"{out.name}.yaml"))
    command = [sys.executable, "-m", "fewtune.cli", "run", str(study), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    started = time.perf_counter()
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def compare_commits(comparison: dict[str, Any], repeats: int, keep: Callable[[], None]) -> None:
    """Time both sides, which take turns, and keep the comparison after every timing."""
    with tempfile.TemporaryDirectory() as folder:
        trees = {side: Path(folder) / side for side in SIDES}
        try:
            for side, tree in trees.items():
                subprocess.run(["git", "worktree", "add", "--detach", tree, comparison[side]], cwd=ROOT, check=True)
            for repeat in range(repeats):
                for side, tree in trees.items():
                    out = Path(folder) / f"{side}-{repeat}"
                    seconds = time_demo(tree, out)
                    timing: dict[str, Any] = {"side": side, "repeat": repeat, "seconds": round(seconds, 1)}
                    if side == "after":
                        timing |= look_at_run(out, seconds)
                    comparison["timings"].append(timing)
                    print(f"{repeat + 1} of {repeats}, {side}: {timing['seconds']} s", flush=True)
                    keep()
        finally:
            for tree in filter(Path.exists, trees.values()):
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def write_table(results: dict[str, Any]) -> str:
    """Every comparison, as Markdown: medians with the least and most of the repeats, and how many times faster.

    Below it, where records were looked at, what the seconds after went into.
    """
    rows = []
    for found in results["comparisons"]:
        before, after = ([t for t in found["timings"] if t["side"] == side] for side in SIDES)
        ratio, least, most = measure_ratio(before, after)
        faster = f"{ratio:.2f}" + (f" ({least:.2f}-{most:.2f})" if len(after) > 1 else "")
        commits = f"{found['before']} and {found['after']}"
        rows.append([found["machine"]["processor"], commits, write_seconds(before), write_seconds(after), faster])
    head = ("processor", "commits before and after", "before, s", "after, s", "times faster")
    machines = "; ".join(dict.fromkeys(write_machine(found["machine"]) for found in results["comparisons"]))
    parts = [write_markdown(head, rows), *write_limits(results), f"{machines}."]
    return "\n\n".join(parts)


def write_limits(results: dict[str, Any]) -> list[str]:
    """What the seconds after went into, beside what products alone would take; no table where no run says so."""
    rows = []
    for found in results["comparisons"]:
        after = [t for t in found["timings"] if "products_at_peak" in t]
        if after:
            before = median(t["seconds"] for t in found["timings"] if t["side"] == "before")
            half = f"{before / 2:.1f}"
            rows.append([found["machine"]["processor"], found["after"], *write_cells(after), half])
    head = ("processor", "commit", *COLUMNS.values(), "half of before")
    return [write_markdown(head, rows)] if rows else []


def find_commit(name: str) -> str:
    """The short hash of a commit, whatever it was called."""
    command = ["git", "rev-parse", "--short", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Compare two commits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    commits = {"before": find_commit(given.before), "after": find_commit(given.after)}
    comparison = {**commits, "machine": describe_machine(os.cpu_count() or 1), **describe_moment(), "timings": []}
    kept = json.loads(FILE.read_text(encoding="utf-8"))["comparisons"] if FILE.is_file() else []
    same = (*SIDES, "machine")
    others = [each for each in kept if any(each[key] != comparison[key] for key in same)]
    compare_commits(comparison, given.repeats, lambda: write_results(FILE, {"comparisons": [*others, comparison]}))


if __name__ == "__main__":
    main()
