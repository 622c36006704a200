"""A vote of the nearest labelled rows, by distance between the model's outputs after a context.

Owns the vote. How far a row is from each labelled one is `engine.readouts.NearnessReadout`'s. Source: Xu et al. 2023,
https://arxiv.org/abs/2303.13824
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewtune.errors import PredictorError
from fewtune.predictors.manifest import NeighboursPart
from fewtune.predictors.tensors import FLOAT32, TensorForm

REVISION = 2
"""2: divergences are expected under the labelled row's distribution; 1: under the row's."""
NEARER = 1e-6
"""What the nearest vote counts more, and each farther one half of that: of labels with equally many, the one that the
nearest row has is answered."""


@dataclass(frozen=True)
class Neighbours:
    """Labelled rows as the model answered them, of which so many nearest vote."""

    anchors: np.ndarray
    """Log-probabilities of the next token, (labelled rows, vocabulary), or unit states, (…, width), float32."""
    labels_of: tuple[int, ...]
    labels: int
    count: int
    by: Literal["vocabulary", "states"]

    def log_probabilities(self, distances: np.ndarray) -> np.ndarray:
        """Log-probabilities (rows, labels) from distances (rows, labelled rows): shares of votes.

        One vote more is spread over all labels, so that a label without any is not said to be impossible.
        """
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : self.count]
        voters = nearest.shape[1]
        weights = 1.0 + NEARER * 0.5 ** np.arange(voters)
        votes = np.zeros((len(distances), self.labels))
        for place in range(voters):
            np.add.at(votes, (np.arange(len(votes)), np.array(self.labels_of)[nearest[:, place]]), weights[place])
        shares: np.ndarray = np.log((votes + 1.0 / self.labels) / (weights.sum() + 1.0))
        return shares

    def describe(self) -> NeighboursPart:
        return NeighboursPart(
            revision=REVISION, by=self.by, labels_of=self.labels_of, labels=self.labels, count=self.count
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {"neighbours.anchors": self.anchors}

    @staticmethod
    def list_forms(part: NeighboursPart, width: int) -> dict[str, TensorForm]:
        """The tensors of a vote by so many probabilities, or features."""
        return {"neighbours.anchors": TensorForm((len(part.labels_of), width), FLOAT32)}

    @staticmethod
    def rebuild(part: NeighboursPart, arrays: Mapping[str, np.ndarray]) -> Neighbours:
        """Raises PredictorError for a model whose distances were taken otherwise."""
        if part.revision != REVISION:
            raise PredictorError(
                "this model was fitted by a fewtune that took distances of rows otherwise: fit knn_prompting again."
            )
        return Neighbours(arrays["neighbours.anchors"], part.labels_of, part.labels, part.count, part.by)
