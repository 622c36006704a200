"""How stable a variant is: its median, its worst draw, and the sources of its variance.

Owns the summaries of one variant's scores. Does not compare variants (`inference`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fewtune.analysis.answers import read_answers
from fewtune.analysis.leaderboard import (
    IN_DOMAIN,
    LeaderboardRow,
    draw_of,
    keep_whole_draws,
    name_metric,
)
from fewtune.analysis.predictions import AnswerReader
from fewtune.inference.better import LEVEL
from fewtune.inference.differences import Difference, measure_score
from fewtune.inference.scores import MethodScores, combine_scores, score_methods
from fewtune.inference.spread import Spread, interquartile_mean, split_spread
from fewtune.metrics.counts import RANGES, find_span
from fewtune.metrics.probabilities import FIGURES
from fewtune.records import Record


@dataclass(frozen=True)
class Bounds:
    """A mean over draws with its 95 % interval, made as a difference's is.

    There is none of a single draw, nor where it would hold every score that there is and so say nothing.
    """

    mean: float
    low: float | None
    high: float | None


def bound_within(mean: float, low: float, high: float, limits: tuple[float, float]) -> Bounds:
    """A mean with an interval that ends where its metric does; none where that is all of it, to three places."""
    if round(low, 3) <= limits[0] and round(high, 3) >= limits[1]:
        return Bounds(mean, None, None)
    return Bounds(mean, max(limits[0], low), min(limits[1], high))


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
    spread: Spread
    gaps: Mapping[str, Bounds]
    calibration_error: float | None
    without_threshold: Mapping[str, Mapping[str, float]]
    """Means of what probabilities are worth (`thresholds`), by test set; empty where no scores were kept."""


def summarise_variants(
    members: Sequence[Record], rows: Sequence[LeaderboardRow], reader: AnswerReader
) -> dict[str, Stability]:
    """Summarise every scored variant of a group, by name, in the leaderboard's order."""
    metric = name_metric(members)
    test_sets = list(dict.fromkeys(name for row in rows for name in row.scores))
    scored = {name: _score_draws(members, reader, name, metric) for name in test_sets}
    return {
        row.variant: _summarise(
            [record for record in members if record.trial.variant == row.variant],
            row,
            {name: draws.get(row.variant, {}) for name, draws in scored.items()},
            metric,
            reader,
        )
        for row in rows
        if row.in_domain is not None
    }


def bound_in_domain(
    members: Sequence[Record], rows: Sequence[LeaderboardRow], reader: AnswerReader
) -> dict[str, Bounds]:
    """The mean in domain of every scored variant of a group, with its interval."""
    metric = name_metric(members)
    scored = _score_draws(members, reader, IN_DOMAIN, metric)
    return {
        row.variant: _bound_score(row.in_domain, scored.get(row.variant, {}), RANGES[metric])
        for row in rows
        if row.in_domain is not None
    }


def _score_draws(
    members: Sequence[Record], reader: AnswerReader, test_set: str, metric: str
) -> dict[str, MethodScores]:
    return score_methods(read_answers(members, reader, [test_set]), metric, {test_set: 1.0})


def _bound_score(mean: float, draws: MethodScores, limits: tuple[float, float]) -> Bounds:
    return bound_mean(measure_score(list(draws.values())), limits, mean) if draws else Bounds(mean, None, None)


def bound_mean(measured: Difference, limits: tuple[float, float], mean: float | None = None) -> Bounds:
    """A mean over draws with its interval, no further than the limits; `mean`: as records have it, rounded."""
    centre = measured.mean if mean is None else mean
    if not measured.is_known:
        return Bounds(centre, None, None)
    reach = measured.reach(LEVEL / 2)
    return bound_within(centre, centre - reach, centre + reach, limits)


def _summarise(
    trials: Sequence[Record],
    row: LeaderboardRow,
    scored: Mapping[str, MethodScores],
    metric: str,
    reader: AnswerReader,
) -> Stability:
    done = [record for record in trials if record.status == "done"]
    values = [draw.value for draw in row.scores[IN_DOMAIN].draws]
    whole = keep_whole_draws(done)
    errors = [r.metrics[IN_DOMAIN]["ece"] for r in whole if "ece" in r.metrics.get(IN_DOMAIN, {})]
    return Stability(
        bounds={
            name: _bound_score(score.mean, scored[name], RANGES[metric])
            for name, score in row.scores.items()
            if score.mean is not None
        },
        interquartile_mean=interquartile_mean(values),
        worst=min(values),
        spread=split_spread(_cells(done)),
        gaps={
            name: _bound_gap(scored[IN_DOMAIN], scored[name], find_span(metric))
            for name in row.scores
            if name != IN_DOMAIN and scored[IN_DOMAIN].keys() & scored[name].keys()
        },
        calibration_error=fmean(errors) if errors else None,
        without_threshold=_average_figures([reader.figures(record) for record in whole], list(row.scores)),
    )


def _average_figures(
    trials: Sequence[Mapping[str, Mapping[str, float]]], test_sets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Means over the trials, by test set and figure, of those that every trial has."""
    found = {}
    for test_set in test_sets:
        each = [figures.get(test_set, {}) for figures in trials]
        found[test_set] = {
            name: fmean(figures[name] for figures in each)
            for name in FIGURES
            if each and all(name in figures for figures in each)
        }
    return found


def _cells(done: Sequence[Record]) -> dict[tuple[int, str], list[float]]:
    """Scores in domain by draw and pattern, a value a fit seed; draws are numbered as they sort."""
    numbers = {draw: number for number, draw in enumerate(sorted({draw_of(record) for record in done}))}
    cells: dict[tuple[int, str], list[float]] = {}
    for record in done:
        value = record.metrics.get(IN_DOMAIN, {}).get(record.primary_metric)
        if value is not None:
            cells.setdefault((numbers[draw_of(record)], record.trial.pattern or ""), []).append(value)
    return cells


def _bound_gap(inside: MethodScores, outside: MethodScores, span: float) -> Bounds:
    """The score in domain less that on a test set, paired by draw."""
    both = sorted(inside.keys() & outside.keys())
    draws = [combine_scores([(1.0, inside[key]), (-1.0, outside[key])]) for key in both]
    return bound_mean(measure_score(draws), (-span, span))
