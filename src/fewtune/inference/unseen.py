"""Bounds how far a score may be off though none of the test rows at hand shows it (the rule of three).

Owns the rule of three in any metric: what one row, answered otherwise, does to a score, and how many rows so many draws
have in all. Does not know how draws differ (`differences`).
Source: Hanley and Lippman-Hand 1983, https://doi.org/10.1001/jama.1983.03330370053031
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fewtune.inference.answers import Codes, DrawAnswers
from fewtune.metrics.counts import OF_TOTALS, SCORES, FloatArray, IntArray, count_answers, total_answers

FEWEST_SHOWN = 3
"""From so many rows of a label on that show a difference, they tell how often such rows come."""
LARGEST_TOTALS = 4_000_000
"""Totals by label that are held at once."""


@dataclass(frozen=True)
class SetWeight:
    """What one test row of all that were drawn can add to a mean over draws."""

    weight: float
    fresh: float
    """By what share of these rows a further draw adds to them."""
    shared: bool = False
    """Whether any of these rows stands in two draws."""


@dataclass(frozen=True)
class RowsTested:
    """One test set of a draw, as a method answered it: rows' codes and gold (rows,), predicted (fit seeds, rows).

    `weights` (labels,) are the most that one row of each gold label, answered otherwise, can change the score.
    """

    rows: Codes
    gold: Codes
    predicted: Codes
    weights: FloatArray
    metric: str

    @property
    def constant(self) -> bool:
        """Whether all rows have one answer: a method may have been made to give it."""
        return bool((self.predicted == self.predicted[0, 0]).all())

    def weigh(self, share: float) -> RowsTested:
        """The same rows where the test set counts by so large a share."""
        return replace(self, weights=share * self.weights)


@dataclass(frozen=True)
class RowsWeighed:
    """A test set's rows' codes (rows,), and the most that one of them can change of what none has shown."""

    rows: Codes
    weight: float


def measure_row_weight(answers: DrawAnswers, metric: str) -> RowsTested:
    """What one row can change of a method's score."""
    if metric == "accuracy":
        weights = np.full(answers.labels, 1 / len(answers.gold))
    else:
        gold, predicted = answers.gold.astype(np.int64), answers.predicted.astype(np.int64)
        weights = np.mean([_find_largest_changes(gold, each, answers.labels, metric) for each in predicted], axis=0)
    return RowsTested(answers.rows, answers.gold, answers.predicted, weights, metric)


def look_at_score(tested: RowsTested) -> RowsWeighed:
    """What rows of labels that are nearly all answered alike can change of a method's own score.

    Nothing of a correlation where one label alone is answered: that is what a constant answer has.
    """
    if tested.metric == "accuracy":
        return _weigh_any(tested)
    if tested.metric == "mcc" and tested.constant:
        return RowsWeighed(tested.rows, 0.0)
    return _weigh_unshown(tested, tested.weights, _list_unlike(tested.gold, tested.predicted))


def look_at_pair(first: RowsTested, second: RowsTested) -> RowsWeighed:
    """What rows of labels on which two methods hardly differ can change of their difference.

    One that gives a single answer is taken at its word beside one that does not: always answering the majority class
    cannot do otherwise. Of two such methods it is not known which one would.
    """
    if first.metric == "accuracy":
        return _weigh_any(first)
    varied = [side for side in (first, second) if not side.constant] or [first, second]
    answers = np.vstack([first.predicted, second.predicted])
    # A difference that is one on all rows of a label shows nothing of how often it comes.
    unlike, differing = _list_unlike(first.gold, answers), (answers != answers[0]).any(axis=0)
    return _weigh_unshown(first, np.max([side.weights for side in varied], axis=0), unlike, differing)


def _weigh_any(tested: RowsTested) -> RowsWeighed:
    """The largest weight of all: an accuracy's rows all do alike."""
    return RowsWeighed(tested.rows, float(tested.weights.max()))


def _list_unlike(gold: Codes, answers: Codes) -> npt.NDArray[np.bool_]:
    """The rows (rows,) that are not answered as most of their label are, by answers (fit seeds, rows) together."""
    kinds = np.unique(answers, axis=1, return_inverse=True)[1].reshape(-1)
    unlike = np.zeros(len(gold), dtype=np.bool_)
    for label in np.unique(gold):
        members = np.flatnonzero(gold == label)
        unlike[members] = kinds[members] != np.bincount(kinds[members]).argmax()
    return unlike


def _weigh_unshown(tested: RowsTested, weights: FloatArray, *shown: npt.NDArray[np.bool_]) -> RowsWeighed:
    """The largest weight of a label of which fewer than FEWEST_SHOWN rows are in any of `shown` (rows,).

    Where more are, what each of them adds (`scores`) tells what they do.
    """
    there = np.bincount(tested.gold, minlength=len(weights)) > 0
    few = np.any([np.bincount(tested.gold[each], minlength=len(weights)) < FEWEST_SHOWN for each in shown], axis=0)
    return RowsWeighed(tested.rows, float(weights[there & few].max(initial=0.0)))


def weigh_rows(draws: Sequence[Sequence[RowsWeighed]]) -> tuple[SetWeight, ...]:
    """What the rows of each test set can add to the mean over draws, of which each has its sets in one order.

    A row of several draws counts once.
    """
    found = []
    for sets in zip(*draws, strict=True):
        rows = np.concatenate([each.rows for each in sets])
        distinct = int(np.count_nonzero(np.bincount(rows)))  # codes are numbered as they come
        weight = sum(each.weight * len(each.rows) for each in sets) / len(sets) / distinct
        found.append(SetWeight(weight, _count_fresh(len(rows), distinct, len(sets)), distinct < len(rows)))
    return tuple(found)


def reach_unseen(sets: Sequence[SetWeight], level: float, further: int = 0) -> float:
    """How far a difference may be, one-sided at a level, though no row of those at hand shows any.

    What happens to a share p of rows is seen on none of n with probability (1 - p)^n, at most exp(-n p), which gives
    the exact binomial limit to first order; at 5 % it is the rule of three. Of an accuracy a row adds 1/n. A score that
    moves most by the first row that differs, as Matthews correlation, is bounded too. Of several test sets that counts
    whose rows add most; with so many `further` draws they add less.
    """
    most = max((each.weight / (1 + further * each.fresh) for each in sets), default=0.0)
    return -math.log(level) * most


def _count_fresh(drawn: int, distinct: int, draws: int) -> float:
    """By what share of the `distinct` rows among all that so many draws have `drawn` a further draw adds to them."""
    return 1.0 if draws < 2 else (distinct - drawn / draws) / ((draws - 1) * distinct)


def _find_largest_changes(gold: IntArray, predicted: IntArray, labels: int, metric: str) -> FloatArray:
    """The most by which one row of each gold label (labels,) changes a score: made right, or a right one made wrong.

    Of gold (rows,) and predicted (rows,); 0 of a label that no row has. Labels with equal counts have the same.
    """
    counts = count_answers(gold, predicted, labels)
    score, totals = OF_TOTALS[SCORES[metric]], total_answers(counts)
    kinds = np.unique(np.stack(totals, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    now, most = float(score(*totals)), np.zeros(labels)
    moves = _list_moves(counts, kinds)
    each = max(1, LARGEST_TOTALS // labels)
    for start in range(0, len(moves), each):
        part = moves[start : start + each]
        np.maximum.at(most, kinds[part[:, 0]], np.abs(score(*_move(totals, part)) - now))
    found: FloatArray = most[kinds]
    return found


def _list_moves(counts: IntArray, kinds: IntArray) -> IntArray:
    """A row's gold label, its answer and another (moves, 3): of labels of one kind one stands for all.

    Wrong answers are made right, and right ones any other; from one wrong answer to another less changes. `kinds`
    (labels,) number labels with equal totals.
    """
    ends = [np.unique(order, return_index=True)[1] for order in (kinds, kinds[::-1])]
    first, last = ends[0], len(kinds) - 1 - ends[1]
    gold, said = np.nonzero(counts)
    wrong = np.unique(kinds[np.stack([gold, said], axis=1)[gold != said]].reshape(-1, 2), axis=0)
    right = np.unique(kinds[np.flatnonzero(np.diagonal(counts))])
    spoilt = np.stack(np.meshgrid(right, np.arange(len(first)), indexing="ij"), axis=-1).reshape(-1, 2)
    # Of one kind there are two labels where it stands twice.
    spoilt = spoilt[(spoilt[:, 0] != spoilt[:, 1]) | (first != last)[spoilt[:, 0]]]
    labels = [(first[kind], np.where(kind == other, last[other], first[other])) for kind, other in (wrong.T, spoilt.T)]
    (wrong_gold, answer), (right_gold, other) = labels
    moves = [(wrong_gold, answer, wrong_gold), (right_gold, right_gold, other)]
    # A label that neither stands nor is said anywhere counts among all once it is said.
    absent = first[(counts.sum(0) + counts.sum(1))[first] == 0]
    moves += [(wrong_gold, answer, np.full_like(answer, label)) for label in absent]
    return np.concatenate([np.stack(each, axis=1) for each in moves])


def _move(
    totals: tuple[FloatArray, FloatArray, FloatArray], moves: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right answers, gold and predicted labels, (moves, labels) each, after each move of one row (moves, 3)."""
    right, golden, given = (np.tile(total, (len(moves), 1)) for total in totals)
    places, (gold, before, after) = np.arange(len(moves)), moves.T
    right[places, gold] += (after == gold).astype(np.float64) - (before == gold)
    given[places, before] -= 1.0
    given[places, after] += 1.0
    return right, golden, given
