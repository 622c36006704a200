"""Predictions, read once and kept small.

Owns what stays in memory of a trial's predictions. Does not know which trials are compared (`answers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl


class LoadPredictions(Protocol):
    """From a trial's id to its predictions, or the columns of them that are asked for."""

    def __call__(self, trial_id: str, columns: Sequence[str] | None = None) -> pl.DataFrame: ...


READ = ("test_set", "row_id", "gold", "predicted")
"""The columns that answers come from; a label's score is read where a whole table is asked for."""

Codes = npt.NDArray[np.uint16]
"""Labels as numbers."""


@dataclass(frozen=True)
class TrialAnswers:
    """One trial's answers on one test set, (rows,) each, ordered by row id; codes mean the same to one reader.

    `rows` are the rows' own codes: equal ones are one row, in whatever draw.
    """

    rows: npt.NDArray[np.int32]
    gold: Codes
    predicted: Codes


class AnswerReader:
    """Reads each trial's predictions once and keeps them small: labels and rows as numbers, no scores."""

    def __init__(self, load: LoadPredictions) -> None:
        self._load = load
        self._codes: dict[str, int] = {}
        self._row_codes: dict[tuple[str, str], int] = {}
        self._rows: dict[bytes, npt.NDArray[np.int32]] = {}
        self._kept: dict[str, dict[str, TrialAnswers]] = {}

    def table(self, trial_id: str) -> pl.DataFrame:
        """A trial's predictions as they are, read anew."""
        return self._load(trial_id)

    def answers(self, trial_id: str) -> dict[str, TrialAnswers]:
        """A trial's answers by test set."""
        if trial_id not in self._kept:
            table = self._load(trial_id, READ).sort("row_id")
            gold, predicted = (self._encode(table[side].to_list()) for side in ("gold", "predicted"))
            names, ids = table["test_set"].to_list(), table["row_id"].to_list()
            rows, sets = self._number_rows(names, ids), np.array(names)
            self._kept[trial_id] = {
                name: TrialAnswers(self._share(rows[here]), gold[here], predicted[here])
                for name in dict.fromkeys(names)
                for here in [sets == name]
            }
        return self._kept[trial_id]

    def _number_rows(self, names: Sequence[str], ids: Sequence[str]) -> npt.NDArray[np.int32]:
        codes = self._row_codes
        return np.array([codes.setdefault(row, len(codes)) for row in zip(names, ids, strict=True)], dtype=np.int32)

    def _share(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Trials of one draw have the same rows: one array serves all."""
        return self._rows.setdefault(rows.tobytes(), rows)

    def _encode(self, labels: Sequence[str]) -> Codes:
        codes = self._codes
        return np.array([codes.setdefault(label, len(codes)) for label in labels], dtype=np.uint16)
