"""What a model says of rows: which labels look wrong, and which rows without labels are worth a label.

Owns both orders. Suspicious labels are those that models which had not seen the row find least likely (Northcutt et al.
2021, https://arxiv.org/abs/1911.00068); rows worth a label are those whose two likeliest labels are nearest (Settles
2009, https://burrsettles.com/pub/settles.activelearning.pdf).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewtune.data.csv_lines import write_csv_lines
from fewtune.records import open_atomically


def find_suspects(probabilities: np.ndarray, gold: npt.NDArray[np.int64]) -> list[int]:
    """Rows whose own label is not the likeliest, least likely first, from probabilities (rows, labels) out of fold."""
    own = probabilities[np.arange(len(gold)), gold]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != gold)
    return [int(place) for place in wrong[np.argsort(own[wrong], kind="stable")]]


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


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows of equal columns as CSV, the whole file or none; marked as UTF-8, for spreadsheets open it.

    `columns` are the header where there may be no row.
    """
    names = list(rows[0]) if rows else list(columns)
    text = write_csv_lines([names, *([row[name] for name in names] for row in rows)])
    with open_atomically(path) as file:
        file.write(text.encode("utf-8-sig"))
