"""Learning curves: a variant's score by the number of labelled rows.

Owns which points belong to one curve. Does not know how one is drawn (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fewtune.analysis.leaderboard import LeaderboardGroup
from fewtune.analysis.stability import Bounds, Stability


@dataclass(frozen=True)
class CurvePoint:
    """A mean over draws at one number of shots, with its interval."""

    shots: int
    draws: int
    bounds: Bounds


@dataclass(frozen=True)
class Curve:
    """One variant on one test set of one task and model, by shots; `metric` is what the scores are."""

    task: str
    model: str | None
    variant: str
    test_set: str
    metric: str
    points: tuple[CurvePoint, ...]


def trace_curves(groups: Iterable[tuple[LeaderboardGroup, Mapping[str, Stability]]]) -> list[Curve]:
    """Trace every variant over shots, in and out of domain; those scored at one number of shots make no curve."""
    found: dict[tuple[str, str | None, str, str, str], list[CurvePoint]] = {}
    for group, stability in groups:
        for row in group.rows:
            for test_set, score in row.scores.items():
                if score.draws and row.variant in stability:
                    key = (group.task, group.model, row.variant, test_set, group.metric)
                    bounds = stability[row.variant].bounds[test_set]
                    found.setdefault(key, []).append(CurvePoint(group.shots, len(score.draws), bounds))
    return [
        Curve(*key, points=tuple(sorted(points, key=lambda point: point.shots)))
        for key, points in found.items()
        if len(points) > 1
    ]
