"""`make demo`'s study under two commits' code, in turn, with the same installed libraries.

python -m benchmarks.demo BEFORE AFTER [--repeats 3]   adds a comparison to benchmarks/results/demo.json

Each run is a process of its own with a new folder, from the command to its report. Comparisons of other commits or
machines stay in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results

FILE = ROOT / "benchmarks" / "results" / "demo.json"


def time_demo(tree: Path) -> float:
    """Seconds of the demo's study run by the code of a tree."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "fewtune.cli", "run", "studies/demo.yaml", "--out", str(Path(out) / "demo")]
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        started = time.perf_counter()
        subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def compare_commits(before: str, after: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of every run of either side, which take turns."""
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as folder:
        trees = {"before": Path(folder) / "before", "after": Path(folder) / "after"}
        for side, commit in (("before", before), ("after", after)):
            subprocess.run(["git", "worktree", "add", "--detach", str(trees[side]), commit], cwd=ROOT, check=True)
        try:
            for repeat in range(repeats):
                for side in ("before", "after"):
                    seconds[side].append(round(time_demo(trees[side]), 1))
                    print(f"{repeat + 1} of {repeats}, {side}: {seconds[side][-1]} s", flush=True)
        finally:
            for tree in trees.values():
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    return seconds


def write_table(results: dict[str, Any]) -> str:
    """Every comparison, as Markdown: medians, least and most of the repeats, and the ratio of medians."""
    rows = []
    for found in results["comparisons"]:
        before, after = (statistics.median(found["seconds"][side]) for side in ("before", "after"))
        spans = [_write_span(found["seconds"][side]) for side in ("before", "after")]
        commits = f"{found['before']} and {found['after']}"
        rows.append([found["machine"]["processor"], commits, *spans, f"{before / after:.2f}"])
    head = ("processor", "commits before and after", "before, s", "after, s", "times faster")
    machines = "; ".join(dict.fromkeys(write_machine(found["machine"]) for found in results["comparisons"]))
    return f"{write_markdown(head, rows)}\n\n{machines}."


def _write_span(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.0f} ({min(seconds):.0f}-{max(seconds):.0f})"


def main() -> None:
    """Compare two commits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    seconds = compare_commits(given.before, given.after, given.repeats)
    found = {
        "before": given.before,
        "after": given.after,
        "seconds": seconds,
        "machine": describe_machine(os.cpu_count() or 1),
        **describe_moment(),
    }
    key = ("before", "after", "machine")
    kept = json.loads(FILE.read_text(encoding="utf-8"))["comparisons"] if FILE.is_file() else []
    others = [each for each in kept if any(each[name] != found[name] for name in key)]
    write_results(FILE, {"comparisons": [*others, found]})


if __name__ == "__main__":
    main()
