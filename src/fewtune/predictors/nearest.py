"""Chooses demonstrations anew for each row: the labelled rows with the nearest texts.

Owns the choice. Near is what the model's own states of the plain texts say, by the cosine between them; the nearest
stands last, beside the row. Source: Liu et al. 2022, https://doi.org/10.18653/v1/2022.deelio-1.10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fewtune.predictors.manifest import NearestPart
from fewtune.tasks.base import Example

if TYPE_CHECKING:
    from fewtune.predictors.language import Prompting


@dataclass(frozen=True)
class NearestDemonstrations:
    """What stands before each row: as many of the demonstrations as are asked for, the nearest last."""

    part: NearestPart
    states: np.ndarray
    """Of the demonstrations' plain texts, of length one, (demonstrations, width)."""
    prompting: Prompting
    """Reads such states."""

    def __call__(self, rows: Sequence[Example]) -> list[str]:
        nearness = np.zeros((len(rows), len(self.states)))
        said = np.flatnonzero(self.prompting.count_tokens(rows))  # to a row without a text none is nearer
        if len(said):
            nearness[said] = self.prompting.read([rows[int(place)] for place in said]) @ self.states.T
        order = np.argsort(-nearness, axis=1, kind="stable")[:, : self.part.count]
        return ["".join(self.part.texts[i] + self.part.separator for i in reversed(chosen)) for chosen in order]
