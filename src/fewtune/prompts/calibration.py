"""Calibration: the log prior over labels that is subtracted from the scores behind a context.

Owns the kinds and how each prior is estimated. Contextual calibration: Zhao et al. 2021,
https://arxiv.org/abs/2102.09690; batch calibration: Zhou et al. 2023, https://arxiv.org/abs/2309.17249
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fewtune.tasks.base import Example

Calibration = Literal["none", "contextual", "batch"]

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing, over which contextual calibration averages (Zhao et al. 2021)."""


def estimate_prior(
    score: Callable[[Sequence[Example]], np.ndarray],
    calibration: Calibration,
    fields: Sequence[str],
    pool: Sequence[Example],
) -> np.ndarray | None:
    """The log prior over labels, (labels,), that calibration subtracts behind a context; None where it has none.

    `score(rows)` gives log-probabilities (rows, labels) behind that context; `fields` are the rows' text fields.
    """
    if calibration == "none":
        return None
    if calibration == "contextual":
        empty = [Example(f"content-free:{text}", dict.fromkeys(fields, text), None) for text in CONTENT_FREE]
        prior: np.ndarray = np.log(np.exp(score(empty)).mean(axis=0))
    else:
        prior = score(pool).mean(axis=0)
    return prior
