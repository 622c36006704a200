"""How long `fewtune fit --budget 3m` takes of a wall clock: beside busy cores, and killed twice and given again.

    python -m benchmarks.killed_fit      six minutes; writes benchmarks/results/killed_fit.json

The rows are 64 of `sentiment`. A process spins on each core all the time. The command runs once to its end; then it is
killed twice, each time after a third of its budget, and given again at once: its seconds are those of all three.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_commit, describe_machine
from fewtune.system.processor import usable_cores
from fewtune.tasks import sentiment

ROWS, BUDGET = 64, 180.0
KILLED_AT = (BUDGET / 3, BUDGET / 3)
"""Seconds after each command's start."""
RUNS: dict[str, Sequence[float]] = {"to its end": (), "killed twice": KILLED_AT}
OUT = ROOT / "benchmarks" / "results" / "killed_fit.json"


def main() -> None:
    """Measure both and write what was found."""
    found: dict[str, Any] = {"rows": ROWS, "budget_seconds": BUDGET, "commit": describe_commit()}
    found["machine"] = describe_machine(usable_cores())
    with tempfile.TemporaryDirectory() as folder, keep_cores_busy():
        rows = write_rows(Path(folder) / "rows.csv")
        for name, kills in RUNS.items():
            found[name] = measure(rows, Path(folder) / name.replace(" ", "-"), kills)
            print(name, found[name], flush=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_table(results: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    rows = [
        [name, f"{results[name]['seconds']:.0f} s", str(len(results[name]["rows answered"])), results[name]["chosen"]]
        for name in RUNS
    ]
    table = write_markdown(("the command", "wall clock, all together", "candidates judged", "chosen"), rows)
    asked = f"Asked: {results['budget_seconds']:.0f} s, on {results['rows']} rows, every core busy."
    return f"{table}\n\n{asked} {write_machine(results['machine'])}."


def write_rows(path: Path) -> Path:
    """The first rows of each label, as many of each, as a user's file."""
    task = sentiment.load(sentiment.Settings(), None)
    of_label = [[row for row in task.train if row.label == label] for label in range(len(task.labels))]
    taken = [row for rows in of_label for row in rows[: ROWS // len(of_label)]]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row.fields[task.fields[0]], task.labels[row.label or 0]] for row in taken)
    return path


@contextmanager
def keep_cores_busy() -> Iterator[None]:
    """Within it a process spins for each core."""
    spinning = [multiprocessing.Process(target=spin, daemon=True) for _ in range(usable_cores())]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()


def spin() -> None:
    """Work without end."""
    while True:
        sum(range(100_000))


def measure(rows: Path, save: Path, kills: Sequence[float]) -> dict[str, Any]:
    """Seconds of a command, given again each time it was killed; what the model keeps of its choice."""
    command = [sys.executable, "-m", "fewtune.cli", "fit", str(rows), "--budget", f"{BUDGET:g}s", "--save", str(save)]
    began, codes = time.monotonic(), list[int]()
    for after in (*kills, None):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                codes.append(process.wait(after))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes.append(process.wait())
    seconds = time.monotonic() - began
    if codes[-1]:
        raise SystemExit(f"the last command ended with code {codes[-1]}; what it says stands above")
    choice = json.loads((save / "manifest.json").read_text(encoding="utf-8"))["origin"]["choice"]
    kept = {each["name"]: each["rows"] for each in choice["candidates"]}
    return {"seconds": round(seconds, 1), "codes": codes, "chosen": choice["chosen"], "rows answered": kept}


if __name__ == "__main__":
    main()
