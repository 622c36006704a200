"""Whether a study's answers depend on what ran its trials, and how much sooner more workers end it.

    python -m benchmarks.workers    writes benchmarks/results/workers.json

One study of a small random model, whose trials take seconds, is run by one, two and four processes of one thread each,
by one and two actors of a Ray cluster of this machine, and in two shards that are merged. Every folder is compared with
the first one's, records and predictions to the bit. Seconds are from the first trial's start to the last one's end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.chaos.processes import Command
from benchmarks.chaos.study import find_differences, read_outcomes, write_study
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.records import load_events
from fewtune.system.processor import usable_cores

FILE = ROOT / "benchmarks" / "results" / "workers.json"
DRAWS = 6
WIDER, EPOCHS = 8, 60
"""How much wider than the tests' tiny model, and passes over the support: trials of some seconds."""
LONGEST = 1200.0
RUNS: dict[str, Sequence[str]] = {
    "1 process": ("--workers", "1"),
    "2 processes": ("--workers", "2"),
    "4 processes": ("--workers", "4"),
    "Ray, 1 actor": ("--executor", "ray", "--workers", "1"),
    "Ray, 2 actors": ("--executor", "ray", "--workers", "2"),
}


def keep_to_one_core() -> None:
    """Called in a new process: a single worker would share a trial among all cores."""
    os.sched_setaffinity(0, {0})


def run(study: Path, out: Path, more: Sequence[str]) -> float:
    """Run the study; seconds from its first trial's start to its last one's end."""
    alone = keep_to_one_core if list(more[:2]) == ["--workers", "1"] else None
    command = Command(["run", study, "--out", out, *more], out.name, study.parent, alone)
    if command.wait(LONGEST) != 0:
        raise SystemExit(f"{more} did not end well:\n{command.log.read_text()[-2000:]}")
    times = [float(event["time"]) for event in load_events(out) if event["event"] in ("started", "finished")]
    return max(times) - min(times)


def run_shards(study: Path, out: Path) -> None:
    """Run the study in two parts and merge them."""
    parts = [out.with_name(f"{out.name}-{number}") for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        run(study, part, ("--workers", "1", "--shard", f"{number}/2"))
    if Command(["merge", *parts, "--out", out], out.name, study.parent).wait(LONGEST) != 0:
        raise SystemExit("the shards could not be merged")


def write_table(results: dict[str, Any]) -> str:
    """A row a run."""
    alone = results["runs"]["1 process"]["seconds"]
    rows = [
        [name, f"{each['seconds']:.0f} s", f"{alone / each['seconds']:.2f}", str(len(each["differences"]) or "none")]
        for name, each in results["runs"].items()
        if each["seconds"] is not None
    ]
    shards = len(results["runs"]["two shards, merged"]["differences"])
    rows.append(["two shards, merged", "", "", str(shards or "none")])
    table = write_markdown(("what ran the trials", "seconds", "times as fast", "differences"), rows)
    return f"{results['trials']} trials.\n\n{table}\n\n{write_machine(results['machine'])}."


def main() -> None:
    """Run all, compare, print and write."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        study = write_study(Path(scratch), DRAWS, times_wider=WIDER, epochs=EPOCHS)
        places = {name: Path(scratch) / f"run{number}" for number, name in enumerate(RUNS)}
        for name, more in RUNS.items():
            seconds = run(study, places[name], more)
            differences = find_differences(places[name], read_outcomes(places["1 process"]))
            found[name] = {"seconds": seconds, "differences": differences}
            print(name, found[name], flush=True)
        merged = Path(scratch) / "merged"
        run_shards(study, merged)
        outcomes = read_outcomes(places["1 process"])
        found["two shards, merged"] = {"seconds": None, "differences": find_differences(merged, outcomes)}
        trials = len(outcomes)
    results = {"runs": found, "trials": trials, "machine": describe_machine(usable_cores()), **describe_moment()}
    print(write_table(results))
    write_results(FILE, results)
    raise SystemExit(any(each["differences"] for each in found.values()))


if __name__ == "__main__":
    main()
