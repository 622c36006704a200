"""Finds rows whose label looks wrong, and unlabelled rows that are worth labelling.

Owns both rules and their orders. Suspicious labels are found by confident learning (Northcutt et al. 2021,
https://arxiv.org/abs/1911.00068), where the models know more than which label is commonest; rows worth a label are
those whose two likeliest labels are nearest (Settles 2009, https://burrsettles.com/pub/settles.activelearning.pdf).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewtune.data.csv_lines import write_csv_lines
from fewtune.inference.majority import is_above_majority
from fewtune.records import open_atomically

FAR_BELOW = 0.2
"""Share of its label's threshold that a row's own label may have. Below the threshold alone, as the paper has it, are
half of the rows that a weak model knows little of; wrong labels are far below it."""


def find_suspects(probabilities: np.ndarray, gold: npt.NDArray[np.int64]) -> list[int]:
    """Rows whose own label looks wrong, the clearest first, from probabilities (rows, labels) out of fold.

    A label's threshold is the mean probability of it that rows labelled so have. A row is suspicious where its own
    label is far below that label's threshold, and another one is likelier and not below its own; they are ordered by
    how much likelier the likeliest of these is. Nothing is suspicious where answers are not clearly better than the
    majority class. Labels of one row have no threshold, and their rows, not judged, may hold NaN.
    """
    counts = np.bincount(gold, minlength=probabilities.shape[1])
    places = np.flatnonzero(counts[gold] > 1)
    if not places.size:
        return []
    judged, given = probabilities[places], gold[places]
    if not is_above_majority(judged.argmax(axis=1) == given, counts.max() / len(places)):
        return []
    own = judged[np.arange(len(given)), given]
    sums = np.bincount(given, weights=own, minlength=len(counts))
    thresholds = np.where(counts > 1, sums / np.maximum(counts, 1), np.inf)
    rivals = np.where(judged >= thresholds, judged, -np.inf)
    rivals[np.arange(len(given)), given] = -np.inf
    margins = own - rivals.max(axis=1)
    found = np.flatnonzero((own < FAR_BELOW * thresholds[given]) & (margins < 0))
    return [int(place) for place in places[found[np.argsort(margins[found], kind="stable")]]]


def order_by_margin(probabilities: np.ndarray) -> list[int]:
    """Rows by how near their two likeliest labels are, nearest first, from probabilities (rows, labels)."""
    ordered = np.sort(probabilities, axis=1)
    return [int(place) for place in np.argsort(ordered[:, -1] - ordered[:, -2], kind="stable")]


def put_before(texts: Mapping[str, str], **told: Any) -> dict[str, Any]:
    """What is told of a row, then its texts; told under another name where a text's column has that one."""
    free = {}
    for name, value in told.items():
        while name in texts:
            name = f"fewtune {name}"
        free[name] = value
    return free | dict(texts)


def write_csv_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows of equal columns as CSV, the whole file or none; marked as UTF-8, for spreadsheets open it.

    `columns` are the header where there may be no row.
    """
    names = list(rows[0]) if rows else list(columns)
    text = write_csv_lines([names, *([row[name] for name in names] for row in rows)])
    with open_atomically(path) as file:
        file.write(text.encode("utf-8-sig"))
