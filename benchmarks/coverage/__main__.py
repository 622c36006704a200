"""How often intervals hold the truth, and how often a verdict finds a difference where there is none.

    python -m benchmarks.coverage [PART ...]   prints every cell and writes benchmarks/results/coverage.json

Parts are pairs, leaders, floors, decisions, looks, finite and choices; where some are named the others' figures are
kept.

Made-up methods answer 500 rows a draw; two of them differ on four rows in ten. Their true difference in a draw is
normal about zero with the deviation named; or, besides, one draw in seven collapses: the second method loses 20 points
there, and gains on the others what keeps the mean at zero; or all draws share their test rows, and on so large a share
of them the two methods answer as in every other draw. Intervals and answers are those that fewtune gives. In the second
table a leader is the best of so many methods that do not differ, and is compared with each of the others; or half of
them are ten points below the others, and it is counted how many of these it is called better than. In the third it is
compared with always answering the majority class, which all methods equal, or which all are ten points above.

The fourth is of decisions among nine methods. In one half of its studies one is the best and all others are below it by
the tolerance: there a bound is wrong where any method's is less than that. In the other half all are equal: there no
"better" is right.

The fifth is of the same studies, looked at more than once: as a race does, or by a user who has three draws, adds as
many as the decision says are missing, and looks again, until something is decided. A study counts as wrong where any
bound was at any look, and as a false "better" where the leader was called better than any other at any look.

The sixth is of small files that are split again and again, or tested on the rows of another: draws share labelled rows
and test rows, and bounds are to hold for rows like these (`finite`).

The seventh sets the two rules of decision side by side, by expected loss and by bounds: in worlds drawn from committed
records, and in the fourth's made-up ones, which are hard for expected losses (`choices`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.coverage.choices import HARD_WORLDS, WORLDS, measure_choices, measure_hard_choices
from benchmarks.coverage.finite import FILES, SIZES, measure_finite
from benchmarks.coverage.pairs import (
    DEVIATIONS,
    DRAWS,
    GROUPS,
    REPETITIONS,
    ROWS,
    measure_floors,
    measure_leaders,
    measure_pairs,
)
from benchmarks.coverage.studies import KINDS, LOOKED_AT, STUDIES, measure_decisions, measure_looks
from benchmarks.race.results import describe_commit
from fewtune.guarantee import Guarantee

COUNTS = {
    "pairs": {"repetitions": REPETITIONS},
    "leaders": {"groups": GROUPS},
    "floors": {"groups": GROUPS},
    "decisions": {"studies": STUDIES},
    "looks": {"looked_at": LOOKED_AT},
    "finite": {"files": FILES},
    "choices": {"worlds": WORLDS, "hard_worlds": HARD_WORLDS},
}
"""How often each part is repeated, kept with its figures."""


def measure_parts() -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What measures the cells of each table."""
    kinds = ((False, None), (False, 0.5), (False, 0.9), (True, None))

    def pairs() -> list[dict[str, Any]]:
        return [
            {"draws": draws, "deviation": deviation, "collapses": collapses, "steady": steady}
            # Each from a seed of its own: what chance does to one cell is not done to all.
            | measure_pairs(draws, deviation, collapses, steady, REPETITIONS, seed)
            for seed, ((collapses, steady), deviation, draws) in enumerate(
                product(kinds, (0.0, 0.02, 0.05, 0.1), DRAWS)
            )
        ]

    def groups(measure: Callable[..., dict[str, float]]) -> list[dict[str, Any]]:
        return [
            {"methods": methods, "draws": draws, "deviations": deviations} | measure(methods, draws, deviations, GROUPS)
            for methods in (3, 6, 10)
            for deviations in DEVIATIONS
            for draws in DRAWS
        ]

    def decisions() -> list[dict[str, Any]]:
        return [
            {"kind": kind.name, "draws": draws} | measure_decisions(kind, draws, STUDIES, seed)
            for seed, (kind, draws) in enumerate(product(KINDS, DRAWS))
        ]

    def looks() -> list[dict[str, Any]]:
        cells = list(product(KINDS, ("race", "by hand")))
        with ProcessPoolExecutor() as processes:  # these take longest by far
            waiting = [
                processes.submit(measure_looks, kind, how, LOOKED_AT, seed) for seed, (kind, how) in enumerate(cells)
            ]
            return [
                {"kind": kind.name, "how": how} | each.result()
                for (kind, how), each in zip(cells, waiting, strict=True)
            ]

    def finite() -> list[dict[str, Any]]:
        cells = list(product(SIZES, (5, 20, None)))
        with ProcessPoolExecutor() as processes:
            waiting = [
                processes.submit(measure_finite, size, draws, FILES, seed) for seed, (size, draws) in enumerate(cells)
            ]
            return [
                {"file_rows": size.rows, "tests": size.tests, "shots": size.shots, "moved": size.moved, "draws": draws}
                | each.result()
                for (size, draws), each in zip(cells, waiting, strict=True)
            ]

    def choices() -> list[dict[str, Any]]:
        guarantees: tuple[Guarantee, ...] = ("expected_loss", "bound")
        with ProcessPoolExecutor() as processes:
            waiting = [processes.submit(measure_choices, guarantee, WORLDS) for guarantee in guarantees]
            waiting += [
                processes.submit(measure_hard_choices, kind, guarantee, HARD_WORLDS, seed)
                for seed, kind in enumerate(KINDS)
                for guarantee in guarantees
            ]
            return [each.result() for each in waiting]

    return {
        "pairs": pairs,
        "leaders": lambda: groups(measure_leaders),
        "floors": lambda: groups(measure_floors),
        "decisions": decisions,
        "looks": looks,
        "finite": finite,
        "choices": choices,
    }


def main() -> None:
    """Measure every cell of the parts that are named, of all where none is."""
    path = ROOT / "benchmarks" / "results" / "coverage.json"
    parts = measure_parts()
    named = sys.argv[1:] or list(parts)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and len(named) < len(parts) else {}
    commits, commit = found.get("commits", {}), describe_commit()
    for part in named:
        found[part] = parts[part]()
        found |= {"rows": ROWS, **COUNTS[part]}
        commits[part] = commit
        for cell in found[part]:
            print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in cell.items()))
        found["commits"] = commits
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")  # part by part: each takes long


if __name__ == "__main__":
    main()
