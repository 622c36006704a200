"""A method's score on each draw, and each test row's contribution to it.

Owns scores of answers and their effects by row (the infinitesimal jackknife). Does not know how draws are put together
(`differences`).
Sources: Efron 1982, https://doi.org/10.1137/1.9781611970319 (infinitesimal jackknife); Gorodkin 2004,
https://doi.org/10.1016/j.compbiolchem.2004.09.006 (Matthews correlation beyond two labels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewtune.errors import RecordError, name_choices
from fewtune.inference.answers import DrawAnswers, DrawKey, MethodAnswers
from fewtune.inference.unseen import RowsTested, measure_row_weight
from fewtune.metrics.counts import OF_TOTALS, SCORES, FloatArray, IntArray, Score, count_answers, total_answers

LARGEST_COUNTS = 4_000_000
"""Counts of answers that are held at once."""
STEP = 1e-3
"""Step of the numerical derivative of a score by a count of answers, in rows."""


@dataclass(frozen=True)
class DrawScore:
    """A score on one draw: rows' codes (rows,), and what one more of each adds to it (rows,), to first order."""

    score: float
    rows: IntArray
    effects: FloatArray
    shared_support: float = 0.0
    """Share of its labelled rows that another draw has too, on average."""
    tested: tuple[RowsTested, ...] = ()
    """Its test sets, each with what one of its rows can add to the score."""


MethodScores = Mapping[DrawKey, DrawScore]
"""One method's scores by draw."""


def score_methods(
    answers: Mapping[str, MethodAnswers], metric: str, weights: Mapping[str, float]
) -> dict[str, MethodScores]:
    """Each method's score on each draw, test sets weighed, fit seeds averaged.

    Raises RecordError for a metric that answers alone do not give.
    """
    if metric not in SCORES:
        raise RecordError(name_choices(metric, SCORES, "primary metric"))
    return {
        name: {key: _score_draw(sets, metric, weights) for key, sets in draws.items()}
        for name, draws in answers.items()
    }


def _score_draw(sets: Mapping[str, DrawAnswers], metric: str, weights: Mapping[str, float]) -> DrawScore:
    return combine_scores([(share, score_answers(sets[name], metric)) for name, share in weights.items()])


def score_answers(answers: DrawAnswers, metric: str) -> DrawScore:
    """A method's score on one draw's test set."""
    gold, predicted = answers.gold.astype(np.int64), answers.predicted.astype(np.int64)
    score, effects = score_with_effects(gold, predicted, answers.labels, metric)
    rows = answers.rows.astype(np.int64)
    return DrawScore(score, rows, effects, answers.shared_support, (measure_row_weight(answers, metric),))


def combine_scores(parts: Sequence[tuple[float, DrawScore]]) -> DrawScore:
    """One draw's scores on several test sets as one, each with its weight."""
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return DrawScore(
        sum(share * part.score for share, part in parts),
        np.concatenate([part.rows for _, part in parts]),
        np.concatenate([share * part.effects for share, part in parts]),
        max(part.shared_support for _, part in parts),
        tuple(tested.weigh(abs(share)) for share, part in parts for tested in part.tested),
    )


def score_with_effects(gold: IntArray, predicted: IntArray, labels: int, metric: str) -> tuple[float, FloatArray]:
    """A method's score on rows, gold (rows,) and predicted (fit seeds, rows), averaged over its fit seeds.

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


def _effects_on_score(gold: IntArray, predicted: IntArray, labels: int, score: Score) -> FloatArray:
    """What one more of each row (rows,) would add to one score: its slope along the count that the row adds to."""
    totals = total_answers(count_answers(gold, predicted, labels))
    cells, places = np.unique(gold * labels + predicted, return_inverse=True)
    slopes: list[FloatArray] = []
    each = max(1, LARGEST_COUNTS // (6 * labels))
    for start in range(0, len(cells), each):
        part = cells[start : start + each]
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
