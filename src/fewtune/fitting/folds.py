"""Stratified folds of all rows, the same for every candidate.

Owns which rows a fold tests, and which rows no fold can test: the only row of a label is in every training part, for
a model that has not seen its label cannot answer it. Does not know what is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fewtune.errors import DataError
from fewtune.plurals import pluralise

Places = npt.NDArray[np.int64]


def make_folds(
    labels: Sequence[int] | Sequence[str] | npt.NDArray[np.generic], folds: int, repeats: int, rng: np.random.Generator
) -> list[Places]:
    """Places (rows tested,) of each fold's test part, ascending, repeat after repeat, from labels (rows,).

    Every training part (all other places) has every label. In each repeat every row is tested once, but the only row
    of a label never (`find_unjudged`). Folds are as large as one another, and so are each label's parts, to one row:
    a label with fewer rows than folds is tested in as many folds as it has rows. Of fewer rows that can be tested than
    folds, each row is a fold. Raises DataError where `folds` is below 2, `repeats` below 1, or no label has two rows.
    """
    if folds < 2 or repeats < 1:
        raise DataError(
            f"{pluralise(folds, 'fold')} and {pluralise(repeats, 'repeat')} asked. Ask at least 2 folds and 1 repeat."
        )
    _, coded, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    judged = np.flatnonzero(counts[coded] > 1)
    if not judged.size:
        raise DataError(
            f"{pluralise(len(coded), 'row')} and no two of one label: a model that is fitted without a row would not "
            "know its label. Give at least two rows of a label."
        )
    parts: list[Places] = []
    for _ in range(repeats):
        # Label by label, both in drawn orders, and dealt in turn: so a label's rows go to different folds.
        mixed = rng.permutation(judged)
        turns = rng.permutation(len(counts))[coded[mixed]]
        dealt = mixed[np.argsort(turns, kind="stable")]
        parts += [np.sort(dealt[first::folds]) for first in range(min(folds, len(dealt)))]
    return parts


def find_unjudged(labels: Sequence[int] | Sequence[str] | npt.NDArray[np.generic]) -> Places:
    """Places of rows that no fold tests, ascending: each is the only one of its label, of labels (rows,)."""
    _, coded, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[coded] == 1)
