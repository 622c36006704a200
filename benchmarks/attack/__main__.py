"""Throws every case at the command line, prints the counts and writes them down."""

from __future__ import annotations

import argparse
import time

from benchmarks.apart import ROOT
from benchmarks.attack.campaign import COUNTED, attack, write_table
from benchmarks.attack.kinds import KINDS, QUICK
from benchmarks.race.results import describe_machine, describe_moment, write_results


def main() -> None:
    """Attack, print the counts, and write them down; exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few cases of each quick kind; writes nothing")
    parser.add_argument("--only", default="", help="kinds whose name or family holds this text; writes nothing")
    parser.add_argument("--most", type=int, default=6, help="cases of a kind, spread over all; 0: all")
    parser.add_argument("--patience", type=float, default=1.0, help="times as long as usual a command may take")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    given = parser.parse_args()
    kinds = {name: KINDS[name] for name in QUICK} if given.smoke else KINDS
    kinds = {name: kind for name, kind in kinds.items() if given.only in f"{kind.make_cases.__module__} {name}"}
    started = time.perf_counter()
    results = attack(kinds, given.smoke, given.jobs, most=given.most or None, patience=given.patience)
    print(write_table(results))
    seconds = round(time.perf_counter() - started, 1)
    print(f"{seconds:.0f} s")
    if not given.smoke and not given.only:
        found = {
            "kinds": results,
            "seconds": seconds,
            "patience": given.patience,
            "machine": describe_machine(1),
            **describe_moment(),
        }
        write_results(ROOT / "benchmarks" / "results" / "attack.json", found)
    raise SystemExit(any(each[word] for each in results.values() for word in (*COUNTED[:3], "broken")))


if __name__ == "__main__":
    main()
