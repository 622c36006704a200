"""Cost against score: the variants on the Pareto frontier, and when training has paid for itself.

Owns the Pareto frontier and the break-even number of queries. Does not recommend (`recommend`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fewtune.analysis.leaderboard import LeaderboardGroup, LeaderboardRow

COSTS: Mapping[str, Callable[[LeaderboardRow], float | None]] = {
    "fit seconds": lambda row: row.fit_seconds,
    "seconds a row": lambda row: row.predict_seconds_per_row,
    "peak memory": lambda row: row.memory_bytes,
    "trained parameters": lambda row: row.trainable_parameters,
}
"""What a variant can be cheap in."""


@dataclass(frozen=True)
class BreakEven:
    """After how many queries a variant that takes longer to fit has taken fewer seconds in all than another.

    `queries` is None where it never has, because it answers no faster.
    """

    trained: str
    untrained: str
    queries: int | None


def find_frontier(group: LeaderboardGroup, cost: Callable[[LeaderboardRow], float | None]) -> tuple[str, ...]:
    """Name the variants that no other equals in score at less cost, or beats at equal cost; the cheapest first."""
    priced = [(value, row) for row in group.rows if row.in_domain is not None and (value := cost(row)) is not None]
    best = -math.inf
    kept = []
    for _, row in sorted(priced, key=lambda item: (item[0], -(item[1].in_domain or 0.0))):
        if row.in_domain is not None and row.in_domain > best:
            best = row.in_domain
            kept.append(row.variant)
    return tuple(kept)


def find_break_evens(group: LeaderboardGroup) -> list[BreakEven]:
    """Set every variant that trains parts of the model against every one that uses it as it is."""
    timed = [row for row in group.rows if row.uses_model and row.done and row.fit_seconds is not None]
    untrained = [row for row in timed if not row.trainable_parameters]
    trained = [row for row in timed if row.trainable_parameters]
    return [
        BreakEven(one.variant, other.variant, count_queries(one, other))
        for other in untrained
        for one in trained
        if None not in (one.predict_seconds_per_row, other.predict_seconds_per_row)
    ]


def count_queries(trained: LeaderboardRow, untrained: LeaderboardRow) -> int | None:
    """Count the queries from which on the first has taken no more seconds than the second; None: never."""
    times = (
        trained.fit_seconds,
        untrained.fit_seconds,
        trained.predict_seconds_per_row,
        untrained.predict_seconds_per_row,
    )
    known = [value for value in times if value is not None]
    if len(known) < len(times):
        return None
    fit, other_fit, predict, other_predict = known
    if fit <= other_fit and predict <= other_predict:
        return 0
    saved = other_predict - predict
    return math.ceil((fit - other_fit) / saved) if saved > 0 else None


def price(row: LeaderboardRow, queries: int) -> float | None:
    """Seconds to fit a variant and answer so many queries; None where either was not measured."""
    if row.fit_seconds is None or row.predict_seconds_per_row is None:
        return None
    return row.fit_seconds + queries * row.predict_seconds_per_row
