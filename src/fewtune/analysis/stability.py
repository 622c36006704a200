"""How steady a variant is: its middle, its worst draw, and where its spread comes from.

Owns the summaries of one variant's scores. Does not compare variants (`comparison`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fewtune.analysis import statistics
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardRow, TestSetScore, average_draws, draw_of
from fewtune.records import Record


@dataclass(frozen=True)
class Bounds:
    """A mean over draws with its 95 % interval, Student's t over the draws; no interval for a single one."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Stability:
    """One variant in one group, by its primary metric; what a single draw cannot tell is None.

    `gaps[test set]` is the score in domain less the score there, paired by draw. `calibration_error` is the mean
    expected calibration error in domain, None where no scores were recorded.
    """

    bounds: Mapping[str, Bounds]
    interquartile_mean: float | None
    worst: float | None
    """The worst draw's score in domain, fit seeds averaged."""
    spread: statistics.Spread
    gaps: Mapping[str, Bounds]
    calibration_error: float | None


def summarise_variants(members: Sequence[Record], rows: Sequence[LeaderboardRow]) -> dict[str, Stability]:
    """Summarise every scored variant of a group, by name, in the leaderboard's order."""
    return {
        row.variant: _summarise([record for record in members if record.trial.variant == row.variant], row)
        for row in rows
        if row.in_domain is not None
    }


def bound_mean(values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> Bounds:
    """Bound the mean of values (draws,), no further than the limits of what they can be."""
    by_draws = statistics.bound_by_draws(values)
    if by_draws is None:
        return Bounds(fmean(values), None, None)
    return Bounds(fmean(values), max(limits[0], by_draws[0]), min(limits[1], by_draws[1]))


def bound_scores(score: TestSetScore, metric: str) -> Bounds:
    """Bound the mean of a test set's scores over draws, within what the metric can be."""
    return bound_mean([draw.value for draw in score.draws], statistics.RANGES[metric])


def _summarise(trials: Sequence[Record], row: LeaderboardRow) -> Stability:
    done = [record for record in trials if record.status == "done"]
    values = [draw.value for draw in row.scores[IN_DOMAIN].draws]
    errors = [r.metrics[IN_DOMAIN]["ece"] for r in done if "ece" in r.metrics.get(IN_DOMAIN, {})]
    return Stability(
        bounds={name: bound_scores(score, done[0].primary_metric) for name, score in row.scores.items() if score.draws},
        interquartile_mean=statistics.interquartile_mean(values),
        worst=min(values),
        spread=statistics.split_spread(_cells(done)),
        gaps={name: bound_mean(gaps) for name in row.scores if name != IN_DOMAIN and (gaps := _gaps(done, name))},
        calibration_error=fmean(errors) if errors else None,
    )


def _cells(done: Sequence[Record]) -> dict[tuple[int, str], list[float]]:
    """Scores in domain by draw and pattern, a value a fit seed; draws are numbered as they sort."""
    keys = sorted({draw_of(record) for record in done})
    cells: dict[tuple[int, str], list[float]] = {}
    for record in done:
        value = record.metrics.get(IN_DOMAIN, {}).get(record.primary_metric)
        if value is not None:
            cells.setdefault((keys.index(draw_of(record)), record.trial.pattern or ""), []).append(value)
    return cells


def _gaps(done: Sequence[Record], test_set: str) -> list[float]:
    both = [record for record in done if test_set in record.metrics and IN_DOMAIN in record.metrics]
    inside, outside = (average_draws(both, name) for name in (IN_DOMAIN, test_set))
    return [one.value - other.value for one, other in zip(inside, outside, strict=True)]
