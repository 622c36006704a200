"""How fast small trials run, what the command that runs them holds and does, and how long reading them takes.

    python -m benchmarks.many_trials               10,000 trials; writes benchmarks/results/many_trials.json
    python -m benchmarks.many_trials --trials 500  fewer; writes nothing

Trials are TF-IDF's and the majority's on the film-review snippets, 50 test rows of each of two sets. The command is
started as users start it and watched from outside. What it takes of a processor for each trial bounds how many trials
a second any number of machines could end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.system.processor import usable_cores

FILE = ROOT / "benchmarks" / "results" / "many_trials.json"
TRIALS = 10_000
SHOTS = (8, 12, 16, 24, 32)
METHODS: tuple[Any, ...] = ("majority", {"tfidf": {"inverse_penalty": 10.0}})
"""Hardly any work each: no penalty is chosen."""
EXECUTORS: dict[str, tuple[str, ...]] = {"local": (), "ray": ("--executor", "ray")}
READERS = (("check", "STUDY"), ("report", "OUT"), ("watch", "OUT"))
WATCHED_SECONDS = 1.0
CLUSTER_NODES, CLUSTER_SLOTS, CLUSTER_TRIAL_SECONDS = 100, 8, 60
"""The cluster that is worked out on paper."""


def write_study(path: Path, trials: int) -> Path:
    """Write the study; trials are rounded up to whole draws."""
    draws = -(-trials // (len(SHOTS) * len(METHODS)))
    study = {
        "name": "many",
        "tasks": ["sentiment"],
        "methods": list(METHODS),
        "baselines": False,
        "shots": list(SHOTS),
        "data_seeds": {"count": draws},
        "evaluation": {"in_domain_rows": 50, "out_of_domain_rows": 50},
    }
    path.write_text(json.dumps(study), encoding="utf-8")  # which is YAML too
    return path


def run_watched(study: Path, out: Path, more: Sequence[str]) -> dict[str, Any]:
    """Run the study; seconds, and memory and processor seconds of the command's own process as it goes."""
    command = [sys.executable, "-m", "fewtune.cli", "run", str(study), "--out", str(out), *more]
    began, seen = time.monotonic(), list[dict[str, float]]()
    with (out.parent / "log").open("wb") as log, psutil.Popen(command, stdout=log, stderr=log) as process:
        while process.poll() is None:
            try:
                taken = process.cpu_times()
                done = sum(1 for _ in (out / "trials").iterdir()) if (out / "trials").is_dir() else 0
                seen.append(
                    {
                        "seconds": time.monotonic() - began,
                        "trials": done,
                        "resident": process.memory_info().rss,
                        "processor": taken.user + taken.system,
                    }
                )
            except (psutil.Error, OSError):
                break
            time.sleep(WATCHED_SECONDS)
        code = process.wait()
    if code != 0:
        raise SystemExit(f"{command} ended with {code}:\n{(out.parent / 'log').read_text()[-2000:]}")
    return summarise(seen)


def summarise(seen: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What of a run counts: the pace while trials ended, and how the command's process grew."""
    most = max(each["trials"] for each in seen)
    running = [each for each in seen if 0 < each["trials"] < most] or list(seen)
    first, last = running[0], running[-1]
    ended = max(1.0, last["trials"] - first["trials"])
    by_share = [min(running, key=lambda each: abs(each["trials"] - share * most)) for share in (0.1, 0.5, 0.9)]
    return {
        "trials": int(most),
        "trials_a_second": ended / max(1e-9, last["seconds"] - first["seconds"]),
        "processor_ms_a_trial": 1000 * (last["processor"] - first["processor"]) / ended,
        "resident_at_tenth_half_and_nine_tenths": [int(each["resident"]) for each in by_share],
    }


def time_readers(study: Path, out: Path) -> dict[str, float]:
    """Seconds that each command that reads the study takes."""
    found = {}
    for name, what in READERS:
        command = [sys.executable, "-m", "fewtune.cli", name, str({"STUDY": study, "OUT": out}[what])]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found[name] = time.monotonic() - began
    return found


def write_table(results: dict[str, Any]) -> str:
    """A row an executor, then the readers."""
    rows = []
    for name, run in results["runs"].items():
        held = " · ".join(f"{each / 2**20:.0f}" for each in run["resident_at_tenth_half_and_nine_tenths"])
        pace = f"{run['trials_a_second']:.0f}"
        rows.append([name, f"{run['trials']:,}", pace, f"{run['processor_ms_a_trial']:.1f} ms", f"{held} MiB"])
    heads = ("executor", "trials", "a second", "the command's processor a trial", "it holds at 10, 50 and 90 %")
    readers = ", ".join(f"`{name}` {seconds:.1f} s" for name, seconds in results["readers"].items())
    cluster = write_cluster(results["runs"]["ray"]["processor_ms_a_trial"])
    table = write_markdown(heads, rows)
    return f"{table}\n\nReading all of them: {readers}.\n\n{cluster}\n\n{write_machine(results['machine'])}."


def write_cluster(milliseconds: float) -> str:
    """What a large cluster would ask of the command, worked out from what it takes of a core for a trial on Ray."""
    seconds, slots = CLUSTER_TRIAL_SECONDS, CLUSTER_NODES * CLUSTER_SLOTS
    pace, most = slots / seconds, 1000 / milliseconds
    return (
        f"On paper: {CLUSTER_NODES} nodes of {CLUSTER_SLOTS} trials each, at {seconds} s a trial, end {pace:.0f} "
        f"trials a second. The command takes {milliseconds:.1f} ms of one core for each: {100 * pace / most:.0f} % of "
        f"it. It could keep up with {most:.0f} a second: such nodes wait for it where trials take less than "
        f"{slots / most:.0f} s."
    )


def main() -> None:
    """Measure, print, and write where all trials ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_trials", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--ray-trials", type=int, default=1000, help="fewer, for its pace alone")
    given = parser.parse_args()
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, more in EXECUTORS.items():
            folder = Path(scratch) / name
            folder.mkdir()
            trials = given.trials if name == "local" else min(given.trials, given.ray_trials)
            study = write_study(folder / "study.yaml", trials)
            runs[name] = run_watched(study, folder / "out", more)
            print(name, runs[name], flush=True)
        readers = time_readers(Path(scratch) / "local" / "study.yaml", Path(scratch) / "local" / "out")
    results = {"runs": runs, "readers": readers, "machine": describe_machine(usable_cores()), **describe_moment()}
    print(write_table(results))
    if given.trials >= TRIALS:
        write_results(FILE, results)


if __name__ == "__main__":
    main()
