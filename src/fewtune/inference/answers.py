"""What one method answered on a draw's test set, as arrays.

Owns the value that scores, differences and bounds are made of. Does not know how it is read from records (`analysis`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer[Any]]

DrawKey = tuple[int, str]
"""A draw's data seed and the fingerprint of its rows: equal keys mean equal rows, which may be paired."""


@dataclass(frozen=True)
class DrawAnswers:
    """One method's answers on one draw's test set: gold (rows,), predicted (fit seeds, rows), as label indices.

    Rows are ordered by row id, so that two methods' answers on one draw are paired row by row; indices mean the same
    labels, of which there are `labels`, in every answer read together. `rows` (rows,) tells which rows draws share, and
    `shared_support` which share of its labelled rows another draw has too, on average.
    """

    gold: Codes
    predicted: Codes
    labels: int
    rows: Codes
    shared_support: float = 0.0


MethodAnswers = Mapping[DrawKey, Mapping[str, DrawAnswers]]
"""One method's answers by draw and test set."""
