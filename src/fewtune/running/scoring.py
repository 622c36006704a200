"""Scores test rows and computes their metrics.

Owns that no scorer sees a row's label: rows lose it here, and get it back when they are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fewtune.errors import TrialFailure
from fewtune.records import Breakdown, Checkpoint, ReferenceNotes
from fewtune.tasks.base import Example, Task, TestSet
from fewtune.tasks.scores import baselines, breakdowns, score_test_set

if TYPE_CHECKING:
    from fewtune.engine.meter import Meter
    from fewtune.methods.plan import Plan

Scores = Mapping[str, np.ndarray]
"""Log-probabilities of each test set's rows, (rows, labels), by the set's name."""
MOST_REFERENCE_ROWS = 128
"""Rows of each test set that a plan's reference scorers are asked of."""


@dataclass(frozen=True)
class Judged:
    """What scores are worth: metrics and baselines by test set, and a table of all rows."""

    metrics: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]
    breakdowns: list[Breakdown]
    predictions: pl.DataFrame


def score_blindly(score: Callable[[Sequence[Example]], np.ndarray], test: TestSet) -> np.ndarray:
    """Log-probabilities of a test set's rows (rows, labels) by a scorer that sees neither labels nor facets."""
    return score([row.without_label() for row in test.rows])


def judge_scores(task: Task, test_sets: Sequence[TestSet], scores: Scores) -> Judged:
    """Set scores beside the gold labels; raises TrialFailure `diverged` where one is not finite."""
    answers: dict[str, list[int]] = {}
    metrics: dict[str, dict[str, float]] = {}
    for test in test_sets:
        if not np.isfinite(scores[test.name]).all():
            raise TrialFailure("diverged", f"scores of test set {test.name} are not finite")
        answers[test.name], metrics[test.name] = score_test_set(test, scores[test.name])
    return Judged(
        metrics=metrics,
        baselines={test.name: baselines(test) for test in test_sets},
        breakdowns=[part for test in test_sets for part in breakdowns(test, answers[test.name])],
        predictions=pl.concat([tabulate(task, test, answers[test.name], scores[test.name]) for test in test_sets]),
    )


def ask_references(plan: Plan, test_sets: Sequence[TestSet], scores: Scores) -> dict[str, ReferenceNotes]:
    """What a plan's reference scorers make of some test rows, by name, and how often they answer as the plan did.

    `scores` are the plan's own, (rows, labels) by test set. Of each set MOST_REFERENCE_ROWS at most are asked, spread
    evenly over it: a teacher behind several contexts takes longer over a row than all else that a trial does with it.
    """
    found = {}
    for name, score in plan.reference_scorers.items():
        metrics, itself, agreement, rows = {}, {}, {}, {}
        for test in test_sets:
            places = np.unique(np.linspace(0, len(test.rows) - 1, MOST_REFERENCE_ROWS).round().astype(int))
            some = replace(test, rows=tuple(test.rows[place] for place in places))
            given, metrics[test.name] = score_test_set(some, score_blindly(score, some))
            own, itself[test.name] = score_test_set(some, scores[test.name][places])
            agreement[test.name] = float(np.mean(np.equal(given, own)))
            rows[test.name] = len(places)
        found[name] = ReferenceNotes(metrics=metrics, agreement=agreement, rows=rows, itself=itself)
    return found


class Checkpoints:
    """Test rows scored in the middle of a fit, for analysis alone; what that costs is set aside from the fit's."""

    def __init__(self, every: int, test_sets: Sequence[TestSet], meter: Meter) -> None:
        self.every = every
        self.taken: list[Checkpoint] = []
        self._test_sets, self._meter = test_sets, meter

    def take(self, plan: Plan, epoch: int, epochs: int) -> None:
        """Score every test set, where the epoch is one to look at or the last."""
        if epoch % self.every and epoch < epochs:
            return
        with self._meter.phase("score", aside=True):
            score = plan.finish().score
            metrics = {test.name: score_test_set(test, score_blindly(score, test))[1] for test in self._test_sets}
        self.taken.append(Checkpoint(epoch=epoch, metrics=metrics))


def tabulate(task: Task, test: TestSet, predicted: Sequence[int], scores: np.ndarray) -> pl.DataFrame:
    """A test set's rows as a record keeps them: ids, gold labels, answers and log-probabilities."""
    gold = [test.labels[row.label] for row in test.rows if row.label is not None]
    return pl.DataFrame(
        {
            "test_set": [test.name] * len(test.rows),
            "row_id": [row.row_id for row in test.rows],
            "gold": gold,
            "predicted": [test.labels[p] for p in predicted],
            **{f"score_{label}": scores[:, i].astype(np.float32) for i, label in enumerate(task.labels)},
        }
    )
