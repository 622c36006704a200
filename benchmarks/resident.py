"""What a worker really holds: trials one after the other in one process, watched from outside.

    python -m benchmarks.resident    writes benchmarks/results/resident.json

Trials of three kinds take turns (all weights by `pattern`, `lora`, scoring alone by `in_context`), on `sentiment` with
16 labelled rows and SmolLM2 135M. The system counts the most memory that the process had at once (VmHWM), set back
before each trial; a record tells what it counted itself. Growth and pace are of a kind's last trials against its first.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.job import Finished, Started
from fewtune.running.prepare import prepare_jobs
from fewtune.study import read_study
from fewtune.system.processor import usable_cores

METHODS = ({"pattern": {"epochs": 40}}, {"lora": {"epochs": 40}}, "in_context")
TRIALS = 21
"""Of all kinds together."""
ENDS = 2
"""Trials of a kind at either end that growth and pace are taken of; the very first of all is left out, for it loads the
model."""
FILE = ROOT / "benchmarks" / "results" / "resident.json"


def measure(trials: int, rows: int) -> list[dict[str, Any]]:
    """Every trial's memory and seconds, in order."""
    study = read_study(
        {
            "name": "resident",
            "models": ["smollm2-135m"],
            "tasks": ["sentiment"],
            "methods": list(METHODS),
            "baselines": False,
            "shots": [16],
            "data_seeds": {"count": trials // len(METHODS)},
            "evaluation": {"in_domain_rows": rows, "out_of_domain_rows": 10},
        }
    )
    jobs = prepare_jobs(study, None)[0]
    jobs.sort(key=lambda job: job.trial.data_seed)
    found: list[dict[str, Any]] = []
    with closing(LocalProcesses()) as executor, closing(executor.run(jobs)) as events:
        for event in events:
            if isinstance(event, Started):
                forget_peak()
            elif isinstance(event, Finished):
                cost = event.record.cost
                assert cost is not None, event.record.failure
                found.append(
                    {
                        "method": event.job.trial.method.variant,
                        "held_bytes": read_peak(),
                        "recorded_held_bytes": cost.resident_memory_bytes,
                        "recorded_bytes": cost.peak_memory_bytes,
                        "fit_seconds": cost.fit_seconds,
                        "score_seconds": cost.predict_seconds,
                    }
                )
                print(json.dumps(found[-1]), flush=True)
    return found


def find_worker() -> Path:
    """The folder in which the system tells of the one worker."""
    [child] = multiprocessing.active_children()
    return Path(f"/proc/{child.pid}")


def forget_peak() -> None:
    """Let the system count the worker's most memory from now on."""
    (find_worker() / "clear_refs").write_text("5")


def read_peak() -> int:
    """The most memory that the worker had since, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", (find_worker() / "status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def summarise(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind: the most held, what its record says, and its last trials over its first ones."""
    rows = []
    for kind in dict.fromkeys(trial["method"] for trial in trials):
        own = [trial for trial in trials if trial["method"] == kind]
        warm = [trial for trial in own if trial is not trials[0]]
        first, last = warm[:ENDS], warm[-ENDS:]
        rows.append(
            {
                "method": kind,
                "trials": len(own),
                "held_bytes": max(trial["held_bytes"] for trial in own),
                "over_recorded": max(trial["held_bytes"] / trial["recorded_held_bytes"] for trial in own),
                "over_allocated": max(trial["held_bytes"] / trial["recorded_bytes"] for trial in own),
                "growth": compare(last, first, lambda trial: trial["held_bytes"]),
                "fit": compare(last, first, lambda trial: trial["fit_seconds"]),
                "score": compare(last, first, lambda trial: trial["score_seconds"]),
            }
        )
    return rows


def compare(last: list[dict[str, Any]], first: list[dict[str, Any]], of: Any) -> float:
    """The median over the last trials as a share of that over the first."""
    return float(median(map(of, last)) / median(map(of, first)))


def write_table(results: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    rows = [
        [
            row["method"],
            str(row["trials"]),
            f"{row['held_bytes'] / 2**30:.2f} GiB",
            f"{row['over_recorded']:.2f}",
            f"{row['over_allocated']:.2f}",
            f"{100 * (row['growth'] - 1):+.0f} %",
            f"{100 * (row['fit'] - 1):+.0f} %",
            f"{100 * (row['score'] - 1):+.0f} %",
        ]
        for row in summarise(results["trials"])
    ]
    heads = ("trials of", "trials", "held at most", "over held as recorded", "over allocated as recorded")
    return (
        f"{write_markdown((*heads, 'growth', 'fit, last over first', 'scoring, last over first'), rows)}\n\n"
        f"{write_machine(results['machine'])}."
    )


def main() -> None:
    """Measure once, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resident", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--rows", type=int, default=300, help="in-domain test rows that a trial scores")
    given = parser.parse_args()
    trials = measure(given.trials, given.rows)
    results = {"trials": trials, "machine": describe_machine(usable_cores()), **describe_moment()}
    print(write_table(results))
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
