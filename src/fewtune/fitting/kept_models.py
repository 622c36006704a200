"""Reads each model once for many fits on parts of the same rows, and keeps frozen scores row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fewtune.engine.model_cache import ModelCache
from fewtune.engine.score_cache import RowScores
from fewtune.models import ModelSnapshot, resolve_precision

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel


MOST_BYTES = 2**30
"""Of frozen scores: 20,000 rows' embeddings by several models, so that each fold finds them kept."""


class KeptModels:
    """Reads models (`ReadModel`) and keeps them, in this machine's precision."""

    def __init__(self) -> None:
        self._models = ModelCache()
        self._rows = RowScores(MOST_BYTES)

    def __call__(self, snapshot: ModelSnapshot) -> LanguageModel:
        return replace(self._models.get(snapshot, resolve_precision("auto")), cache=self._rows)
