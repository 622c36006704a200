"""Disturbs a study at random moments, and says whether it ends as an undisturbed one.

    make chaos                              fifteen minutes, writes benchmarks/results/chaos.json
    make chaos-smoke                        two minutes, without Ray; writes nothing

Commands are killed, their workers, or both at once; told to end; stopped, for a while or for good; given too little
memory, files that may not grow, or a disk that fills; poisoned files lie beside the weights; and between two commands
files are cut short, overwritten, deleted, left half written, or of another day. On a Ray cluster of three nodes actors,
nodes and drivers are killed. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.chaos.campaign import Tally, prepare, run_campaign
from benchmarks.chaos.ray_cluster import run_on_ray
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.system.processor import usable_cores

PLACES = {"local": "processes", "ray": "Ray"}
FILE = ROOT / "benchmarks" / "results" / "chaos.json"
MINUTES, DRAWS, LANES = 8.8, 2, 2
RAY_MINUTES, RAY_DRAWS = 3.0, 6


def write_table(results: dict[str, Any]) -> str:
    """How often each thing happened where, and what was found."""
    rows = [[PLACES[place], what, str(times)] for place in PLACES for what, times in results[place]["happened"].items()]
    told = []
    for place in PLACES:
        counts, found = results[place], results[place]["found"]
        each = ", ".join(f"{counts[what]} {what}" for what in ("studies", "commands", "kills"))
        told.append(f"{PLACES[place]}: {each}; found: {len(found) or 'nothing'}")
    table = write_markdown(("where", "what happened", "times"), rows)
    return f"{table}\n\n{'. '.join(told)}.\n\n{write_machine(results['machine'])}."


def describe(tally: Tally) -> dict[str, Any]:
    """A tally as results hold it."""
    return {
        "happened": dict(tally.happened.most_common()),
        "kills": tally.kills,
        "studies": tally.lives,
        "commands": tally.commands,
        "found": tally.found,
    }


def main() -> None:
    """Disturb, print the counts, and write them down where the campaign was a whole one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--part", choices=("local", "ray"), help="one part alone")
    parser.add_argument("--seed", type=int, help="of the moments; drawn and told where not given")
    parser.add_argument("--folder", type=Path, help="where lives lie; a folder that goes away where not given")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        local = Tally()
        if given.part != "ray":
            settings = [prepare(Path(scratch) / name, DRAWS, name == "race") for name in ("study", "race")]
            for each in settings:
                print(f"undisturbed: {len(each.undisturbed)} trials in {each.seconds:.1f} s", flush=True)
            local = run_campaign(settings, given.minutes, LANES, seed)
        (Path(scratch) / "ray").mkdir()
        ray = run_on_ray(Path(scratch) / "ray", RAY_DRAWS, RAY_MINUTES, seed) if given.part != "local" else Tally()
    results = {
        "local": describe(local),
        "ray": describe(ray),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "machine": describe_machine(usable_cores()),
        **describe_moment(),
    }
    print(write_table(results))
    for found in [*local.found, *ray.found]:
        print(found)
    if given.minutes >= MINUTES and given.part is None:
        write_results(FILE, results)
    raise SystemExit(bool(local.found or ray.found))


if __name__ == "__main__":
    main()
