"""Keeps one process's models, so that each is read from disk once.

Owns which are kept, and for how long. How one is read is `loading`; torch is imported with the first.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from fewtune.models import ModelSnapshot, Precision

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel


class ModelCache:
    """Models of one process, each read from disk once."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, Precision], LanguageModel] = {}
        self.load_seconds = 0.0
        """Seconds the last `get` took."""

    def keep_only(self, fingerprints: Collection[str]) -> None:
        """Let go of every model with other weights."""
        wanted = set(fingerprints)
        self._models = {key: model for key, model in self._models.items() if key[0] in wanted}

    def get(self, snapshot: ModelSnapshot, precision: Precision) -> LanguageModel:
        from fewtune.engine.loading import load_model

        started = time.perf_counter()
        key = (snapshot.weights_fingerprint, precision)
        if key not in self._models:
            self._models[key] = load_model(snapshot, precision)
        self.load_seconds = time.perf_counter() - started
        return self._models[key]
