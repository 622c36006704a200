"""Scores every row alike, by the label frequencies of the support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewtune.errors import PredictorError
from fewtune.predictors.manifest import ConstantPart
from fewtune.predictors.tensors import TensorFile, TensorForm
from fewtune.tasks.base import Example

LARGEST_EXCESS = 1e-6
"""Of the logarithm of what probabilities sum to, which rounding makes no 0."""


@dataclass(frozen=True)
class ConstantScorer:
    """Log-probabilities over the labels, (labels,), whatever the row."""

    scores: np.ndarray

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        return np.tile(self.scores, (len(rows), 1))

    def count_cut(self) -> int:
        return 0  # it reads all of a row

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        return [0] * len(rows)

    def describe(self) -> ConstantPart:
        return ConstantPart()

    def arrays(self) -> dict[str, np.ndarray]:
        return {"scores": self.scores}

    def answers_alone(self) -> bool:
        return True

    def write_more(self, folder: Path) -> None:
        """Nothing but its array."""

    @staticmethod
    def rebuild(tensors: TensorFile, labels: int) -> ConstantScorer:
        """Raises PredictorError where the tensors are not those of a constant over so many labels."""
        scores = tensors.read({"scores": TensorForm((labels,))})["scores"]
        if abs(np.logaddexp.reduce(scores)) > LARGEST_EXCESS:
            raise PredictorError(f"{tensors.place}: scores are no log-probabilities of labels: they do not sum to 1.")
        return ConstantScorer(scores)
