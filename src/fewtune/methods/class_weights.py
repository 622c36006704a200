"""Class weights: every row counts alike, or rows of rarer labels count more.

Owns the setting and the weights. Source: King and Zeng 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868; it is
scikit-learn's `class_weight="balanced"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

ClassWeight = Annotated[
    Literal["balanced"] | None,
    Field(
        description="What a row counts in the fit. balanced: the less, the commoner its label is, so that all labels "
        "count alike together; null: all rows count alike."
    ),
]


def weigh_labels(class_weight: ClassWeight, labels: Sequence[int], count: int) -> np.ndarray:
    """What a row of each of `count` labels counts, (labels,), from the labels of the fitted rows: 1 on average.

    A label without rows counts 1.
    """
    rows = np.bincount(np.asarray(labels, dtype=np.int64), minlength=count)
    if class_weight is None:
        return np.ones(count)
    return np.where(rows > 0, len(labels) / ((rows > 0).sum() * np.maximum(rows, 1)), 1.0)
