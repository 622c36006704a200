"""Tests whether a model is clearly better than always answering the majority class.

Owns that one question. Source: the score test of one proportion, which Wilson's interval (1927,
https://doi.org/10.1080/01621459.1927.10502953) inverts.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

LEVEL = 0.05
"""The chance, one-sided, that a model which is as good as the majority class is taken for a better one."""


def is_above_majority(correct: npt.ArrayLike, majority_share: float) -> bool:
    """Whether Wilson's lower limit of an accuracy, 95 % one-sided, is above the share of the majority class.

    `correct` (rows,) says which rows are answered rightly by models that had not seen them, or, of several repeats, in
    which share of them: rows count, and repeats add none. `majority_share` is the label's among these same rows.
    """
    answered = np.asarray(correct, dtype=np.float64)
    if not answered.size:
        return False
    error = math.sqrt(majority_share * (1 - majority_share) / answered.size)
    return bool(answered.mean() - majority_share > NormalDist().inv_cdf(1 - LEVEL) * error)
