"""Temperature scaling: divides scores by one number that is fitted so that probabilities are calibrated.

Owns normalised scores and how the number is found from scores of rows that the method was not fitted on. Answers do not
change by it. Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SPREAD = 1.0
"""Standard deviation of the log temperature before any row is seen: few rows, all answered right, do not make it 0."""
_LOWEST, _HIGHEST = 1 / 50, 50.0


def normalise(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities over the outcomes from scores (rows, outcomes)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def fit_temperature(log_probabilities: np.ndarray, gold: npt.NDArray[np.int64], spread: float = SPREAD) -> float:
    """The temperature under which gold labels (rows,) are likeliest, from log-probabilities (rows, labels) of rows that
    were not fitted on; drawn to 1 as far as rows are few, and `spread` small.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(gold))

    def measure(log_temperature: float) -> float:
        scaled = normalise(log_probabilities / np.exp(log_temperature))
        return float(-scaled[rows, gold].sum() + 0.5 * (log_temperature / spread) ** 2)

    found = minimize_scalar(measure, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))
