"""Labelled rows that are held out of training to choose an epoch.

Owns the split, label by label, and that rows without a label are refused. Does not know who is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewtune.errors import DataError
from fewtune.tasks.base import Example


def hold_out(rows: Sequence[Example], fraction: float, rng: np.random.Generator) -> tuple[list[Example], list[Example]]:
    """Split labelled rows into those that are fitted and those that choose the epoch, label by label.

    Raises DataError where a label would have no row left on either side.
    """
    if fraction == 0.0:
        return list(rows), []
    held: set[int] = set()
    for label in sorted({know_label(row.label) for row in rows}):
        members = [i for i, row in enumerate(rows) if row.label == label]
        count = round(fraction * len(members))
        if not 0 < count < len(members):
            raise DataError(
                f"validation_fraction {fraction:g} of the {len(members)} support rows of one label leaves none on one "
                "side. Use more shots, or set validation_fraction to 0 (the last step is kept)."
            )
        held.update(int(i) for i in rng.permutation(members)[:count])
    return [row for i, row in enumerate(rows) if i not in held], [row for i, row in enumerate(rows) if i in held]


def know_label(label: int | None) -> int:
    """A row's label; raises DataError where it has none."""
    if label is None:
        raise DataError("a row without a label cannot be fitted by its label")
    return label
