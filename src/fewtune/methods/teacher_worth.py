"""Measures a teacher's accuracy on labelled rows, which decides how long its student trains.

Owns the measure and the steps that follow it. Does not know how the teacher answers (`teacher`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fewtune.tasks.base import Example

LEAST_STEPS = 40
"""Steps for a teacher that is worth nothing: what most other methods take over sixteen rows."""
WORTHIEST_STEPS = 160
"""Steps for a teacher that is always right."""


def measure_worth(rows: Sequence[Example], targets: Sequence[np.ndarray | None]) -> float | None:
    """How far on the way from chance to 1 a teacher's accuracy on labelled rows is, 0 to 1, by its log-probabilities.

    Chance is the share of these rows' majority class. None where it was asked of no labelled rows, or of one label's.
    """
    asked = [(row.label, target) for row, target in zip(rows, targets, strict=True) if row.label is not None]
    answers = [(label, int(np.argmax(target))) for label, target in asked if target is not None]
    if not answers:
        return None
    accuracy = sum(label == answer for label, answer in answers) / len(answers)
    chance = max(Counter(label for label, _ in answers).values()) / len(answers)
    return max(0.0, (accuracy - chance) / (1 - chance)) if chance < 1 else None


def count_steps(worth: float) -> int:
    """Steps for a teacher of that worth, 0 to 1, between LEAST_STEPS and WORTHIEST_STEPS."""
    return LEAST_STEPS + round(worth * (WORTHIEST_STEPS - LEAST_STEPS))
