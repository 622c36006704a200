"""Weights of a stack: how much each candidate's log-probabilities count in the sum.

Owns how the weights are found, and the judging of a stack beside its members on the same rows. Weights are 0 or more,
and held towards equal ones that sum to 1. Sources: Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1
(stacking); Breiman 1996, https://doi.org/10.1007/BF00117832 (weights of 0 or more).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fewtune.predictors.manifest import LARGEST_WEIGHT
from fewtune.predictors.regression import LOWEST
from fewtune.predictors.stack import pool

PENALTY = 4.0
"""Of a weight's squared distance from an equal share, halved: as if it were known beforehand to within a half."""


def fit_weights(
    log_probabilities: np.ndarray, gold: npt.NDArray[np.int64], penalty: float = PENALTY
) -> npt.NDArray[np.float64]:
    """The weights (members,) under which gold labels (rows,) are likeliest, pooled by `predictors.stack.pool`.

    `log_probabilities` (members, rows, labels) are of rows that the members were not fitted on. What is least is the
    sum of the rows' log losses and half the penalty times the squared distance of the weights from 1/members: it counts
    the less, the more rows there are. Without a row weights are equal.
    """
    from scipy.optimize import Bounds, minimize
    from scipy.special import logsumexp

    members, rows, labels = log_probabilities.shape
    floored = np.maximum(log_probabilities, LOWEST)
    # Each label's less the gold one's, so that a row's loss is the logarithm of a sum of exponentials.
    over_gold = (floored - floored[:, np.arange(rows), gold][..., None]).reshape(members, rows * labels)
    equal = 1 / members

    def measure(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = (weights @ over_gold).reshape(rows, labels)
        losses = logsumexp(scores, axis=1)
        probabilities = np.exp(scores - losses[:, None]).ravel()
        away = weights - equal
        return float(losses.sum() + penalty / 2 * (away @ away)), over_gold @ probabilities + penalty * away

    found = minimize(
        measure,
        np.full(members, equal),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(0.0, LARGEST_WEIGHT),
        options={"ftol": 1e-12, "gtol": 1e-7},
    )
    return np.asarray(found.x, dtype=np.float64)


def judge_stack(
    log_probabilities: np.ndarray,
    gold: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    penalty: float = PENALTY,
) -> np.ndarray:
    """The stack's log-probabilities (rows, labels), each fold's by weights that were fitted on the other folds' rows.

    `log_probabilities` (members, rows, labels) are the members' own of rows that they were not fitted on; `folds`
    (rows,) says which fold each row is in. So the stack is judged beside its members, on the same rows. Members that
    answered the other folds had seen a row, which a weight a member can hardly tell.
    """
    found = np.empty(log_probabilities.shape[1:])
    for fold in np.unique(folds):
        inside = folds == fold
        weights = fit_weights(log_probabilities[:, ~inside], gold[~inside], penalty)
        found[inside] = pool(list(log_probabilities[:, inside]), weights.tolist())
    return found
