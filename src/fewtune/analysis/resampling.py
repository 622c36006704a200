"""A difference of two methods on one draw, and how it would come out on other rows.

Owns scores that are computed from counts of answers, their resampling, and what each row adds to them. Does not know
how draws are put together (`statistics`).
Sources: Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006 (Matthews correlation beyond two labels);
Efron 1982, https://doi.org/10.1137/1.9781611970319 (infinitesimal jackknife).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fewtune.metrics.counts import OF_TOTALS, SCORES, FloatArray, IntArray, Score, count_answers, total_answers

LARGEST_COUNTS = 4_000_000
"""Counts of answers that are held at once."""
STEP = 1e-3
"""Step of the numerical derivative of a score by a count of answers, in rows."""
KEPT_RESAMPLES = 4
"""Numbers of resamples that a score keeps; gaps have as many draws as scores, but for those that failed."""
KIND_COST = 5
"""Time of drawing one kind of row's count by a multinomial, in rows that are drawn one by one."""


@dataclass(frozen=True)
class PairedRows:
    """One draw's answers of two methods: gold (rows,), first (fit seeds, rows), second (fit seeds, rows).

    All three hold label indices; a second method of no fit seeds scores 0.
    """

    gold: IntArray
    first: IntArray
    second: IntArray


@dataclass(frozen=True)
class DrawDifference:
    """Two methods' difference on one draw, and how it comes out on other rows.

    `rows` (rows,) are the rows' codes, equal where draws share a row, and `effects` (rows,) what one more of each would
    add to the difference, to first order. `resample` draws rows anew: times -> (times,). `shared_support` is the share
    of its labelled rows that another draw has too, on average.
    """

    point: float
    rows: npt.NDArray[np.integer[Any]]
    effects: FloatArray
    resample: Callable[[int], FloatArray]
    shared_support: float = 0.0


def subtract_rows(
    differences: FloatArray, rows: npt.NDArray[np.integer[Any]], rng: np.random.Generator
) -> DrawDifference:
    """A draw's mean of row differences (rows,): first method minus second on the same row."""
    mean = float(differences.mean())
    return DrawDifference(mean, rows, (differences - mean) / len(differences), _resample_mean(differences, rng))


def subtract_scores(
    pair: PairedRows, rows: npt.NDArray[np.integer[Any]], labels: int, score: Score, rng: np.random.Generator
) -> DrawDifference:
    """A draw's difference of a score that is no mean over rows (Matthews correlation, macro-F1).

    The score is taken over each resample's counts for every fit seed, and averaged over fit seeds.
    """
    return DrawDifference(
        score_difference(pair, labels, score),
        rows,
        _score_effects(pair, labels, score),
        _resample_score(pair, labels, score, rng),
    )


def take_score(
    gold: IntArray,
    predicted: IntArray,
    rows: npt.NDArray[np.integer[Any]],
    labels: int,
    metric: str,
    rng: np.random.Generator,
) -> DrawDifference:
    """A method's own score on one draw, as its difference from nothing; gold (rows,), predicted (fit seeds, rows).

    Its resamples are made once: the intervals of the score and of each of its gaps ask for equally many.
    """
    if metric == "accuracy":
        taken = subtract_rows((predicted == gold).mean(0), rows, rng)
    else:
        taken = subtract_scores(PairedRows(gold, predicted, predicted[:0]), rows, labels, SCORES[metric], rng)
    return replace(taken, resample=lru_cache(maxsize=KEPT_RESAMPLES)(taken.resample))


def share_rows(draws: Sequence[DrawDifference]) -> bool:
    """Whether any row stands in two draws."""
    rows = np.concatenate([draw.rows for draw in draws])
    return len(np.unique(rows)) < len(rows)


def weigh(parts: Sequence[tuple[float, DrawDifference]]) -> DrawDifference:
    """One draw's differences on several test sets as one, each with its weight; rows are resampled set by set."""
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return DrawDifference(
        sum(share * part.point for share, part in parts),
        np.concatenate([part.rows for _, part in parts]),
        np.concatenate([share * part.effects for share, part in parts]),
        lambda times: np.asarray(sum(share * part.resample(times) for share, part in parts), dtype=np.float64),
        max(part.shared_support for _, part in parts),
    )


def score_difference(rows: PairedRows, labels: int, score: Score) -> float:
    """Score the first method minus the second on one draw, each averaged over its fit seeds."""
    first = [score(count_answers(rows.gold, answers, labels)) for answers in rows.first]
    second = [score(count_answers(rows.gold, answers, labels)) for answers in rows.second]
    return float(np.mean(first) - (np.mean(second) if second else 0.0))


def score_with_effects(gold: IntArray, predicted: IntArray, labels: int, metric: str) -> tuple[float, FloatArray]:
    """A method's score on one draw's rows, gold (rows,) and predicted (fit seeds, rows), averaged over its fit seeds.

    With it, (rows,), what one more of each row would add to it, to first order.
    """
    if metric == "accuracy":
        right = (predicted == gold).sum(0) / len(predicted)
        mean = float(right.sum()) / len(right)
        return mean, np.asarray((right - mean) / len(right), dtype=np.float64)
    score = SCORES[metric]
    value = float(np.mean([score(count_answers(gold, each, labels)) for each in predicted]))
    effects = [_effects_on_score(gold, each, labels, score) for each in predicted]
    return value, np.asarray(np.mean(effects, 0), dtype=np.float64)


def _resample_mean(rows: FloatArray, rng: np.random.Generator) -> Callable[[int], FloatArray]:
    def resample(times: int) -> FloatArray:
        # Rows drawn with replacement are counts of their distinct values: exact, and few values are distinct.
        values, counts = np.unique(rows, return_counts=True)
        drawn = rng.multinomial(len(rows), counts / len(rows), size=times)
        return np.asarray(drawn @ values / len(rows), dtype=np.float64)

    return resample


def _resample_score(
    rows: PairedRows, labels: int, score: Score, rng: np.random.Generator
) -> Callable[[int], FloatArray]:
    stacked = np.vstack([rows.gold[None], rows.first, rows.second])
    kinds, counts = np.unique(stacked, axis=1, return_counts=True)
    distinct = PairedRows(kinds[0], kinds[1 : 1 + len(rows.first)], kinds[1 + len(rows.first) :])

    def resample(times: int) -> FloatArray:
        return _score_weighted(_draw_counts(counts, times, rng), distinct, labels, score)

    return resample


def _draw_counts(counts: IntArray, times: int, rng: np.random.Generator) -> IntArray:
    """How often each kind of row is drawn, rows drawn with replacement: counts (kinds,) -> (times, kinds)."""
    rows, kinds = int(counts.sum()), len(counts)
    if KIND_COST * kinds < rows:
        return rng.multinomial(rows, counts / rows, size=times)
    drawn = np.zeros((times, kinds), dtype=np.int64)
    kind_of = np.repeat(np.arange(kinds, dtype=np.int32), counts)
    for part in _split(drawn, 2 * rows):  # of at most LARGEST_COUNTS numbers: 32 bits hold their places
        picked = kind_of[rng.integers(rows, size=(len(part), rows), dtype=np.int32)]
        picked += kinds * np.arange(len(part), dtype=np.int32)[:, None]
        part[:] = np.bincount(picked.ravel(), minlength=part.size).reshape(part.shape)
    return drawn


def _score_weighted(weights: IntArray, rows: PairedRows, labels: int, score: Score) -> FloatArray:
    """The first method's score minus the second's with each row taken as often as told: (times, rows) -> (times,)."""
    gold = _mark_labels(rows.gold, labels)
    answers = [
        (_mark_labels(each, labels, each == rows.gold), _mark_labels(each, labels))
        for each in (*rows.first, *rows.second)
    ]
    differences = [np.zeros(0)]
    for part in _split(weights, len(answers) * labels):
        # Once: each product would turn and copy it anew. Counts of rows are whole in 32 bits, at half the memory.
        drawn = np.ascontiguousarray(part.T, dtype=np.float32)
        golden = _weigh_labels(gold, drawn)
        scores = np.array(
            [
                OF_TOTALS[score](_weigh_labels(right, drawn), golden, _weigh_labels(given, drawn))
                for right, given in answers
            ]
        )
        theirs = scores[len(rows.first) :].mean(0) if len(rows.second) else 0.0
        differences.append(scores[: len(rows.first)].mean(0) - theirs)
    return np.concatenate(differences)


def _mark_labels(given: IntArray, labels: int, among: npt.NDArray[np.bool_] | None = None) -> sparse.csr_array:
    """Which label each row (rows,) has, of those among all that count: (labels, rows), 1 or nothing."""
    rows = np.arange(len(given)) if among is None else np.flatnonzero(among)
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.csr_array((ones, (given[rows], rows)), shape=(labels, len(given)))


def _weigh_labels(marks: sparse.csr_array, drawn: npt.NDArray[np.float32]) -> FloatArray:
    """How often each label was drawn: marks (labels, rows), drawn (rows, times) -> (times, labels)."""
    return np.ascontiguousarray((marks @ drawn).T, dtype=np.float64)


def _score_effects(pair: PairedRows, labels: int, score: Score) -> FloatArray:
    """What one more of each row (rows,) would add to the first method's score minus the second's, to first order."""
    seeds = [[_effects_on_score(pair.gold, each, labels, score) for each in side] for side in (pair.first, pair.second)]
    theirs = np.mean(seeds[1], 0) if seeds[1] else 0.0
    return np.asarray(np.mean(seeds[0], 0) - theirs, dtype=np.float64)


def _effects_on_score(gold: IntArray, predicted: IntArray, labels: int, score: Score) -> FloatArray:
    """What one more of each row (rows,) would add to one score: its slope along the count that the row adds to."""
    totals = total_answers(count_answers(gold, predicted, labels))
    cells, places = np.unique(gold * labels + predicted, return_inverse=True)
    slopes: list[FloatArray] = []
    for part in _split(cells, 6 * labels):
        steps = np.zeros((3, len(part), labels))
        golden, given, kinds = part // labels, part % labels, np.arange(len(part))
        steps[0, kinds, golden] = STEP * (golden == given)
        steps[1, kinds, golden] = steps[2, kinds, given] = STEP
        up, down = (
            OF_TOTALS[score](*(total + sign * step for total, step in zip(totals, steps, strict=True)))
            for sign in (1, -1)
        )
        slopes.append((up - down) / (2 * STEP))
    return np.asarray(np.concatenate(slopes)[places], dtype=np.float64)


def _split(array: npt.NDArray[Any], values: int) -> list[npt.NDArray[Any]]:
    """An array in parts: with so many values to each of its entries, a part has at most LARGEST_COUNTS."""
    each = max(1, LARGEST_COUNTS // values)
    return [array[start : start + each] for start in range(0, len(array), each)]
