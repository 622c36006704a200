"""Answers of fold models to the rows they were not fitted on, kept in a folder so that a killed command resumes.

Owns the files: one a fold of a candidate, named by all that decides what is in it; where an unended fit stands, named
likewise; and the seconds spent.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.records import is_empty, write_atomically
from fewtune.records.files import PART

if TYPE_CHECKING:
    from fewtune.engine.resuming import Resumption

FIT_EVERY_SECONDS, FIT_SHARE = 60.0, 0.05
"""Of a fit, between two writings of where it stands; the share of its time that these may take."""
_ANSWERS, _FIT, _SECONDS = ".npz", ".safetensors", ".json"
_DIGITS = 24
_HEX = "[0-9a-f]" * _DIGITS
_UNREADABLE = (OSError, ValueError, KeyError, zipfile.BadZipFile)


@dataclass(frozen=True)
class FoldAnswers:
    """Log-probabilities (rows, labels) of a fold's rows by a model fitted without them, and what that took."""

    log_probabilities: np.ndarray
    fit_seconds: float
    seconds_a_row: float

    @property
    def seconds(self) -> float:
        """What fitting and answering took together."""
        return self.fit_seconds + self.seconds_a_row * len(self.log_probabilities)


class WorkFolder:
    """The folder of one command's unfinished work; None: nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def load(self, key: Mapping[str, Any]) -> FoldAnswers | None:
        """What was kept under a key; None where nothing was, or it cannot be read: the fold is fitted again."""
        if self.path is None:
            return None
        try:
            with np.load(io.BytesIO(self._name(key, _ANSWERS).read_bytes()), allow_pickle=False) as kept:
                return FoldAnswers(kept["log_probabilities"], float(kept["fit_seconds"]), float(kept["seconds_a_row"]))
        except _UNREADABLE:
            return None

    def keep(self, key: Mapping[str, Any], answers: FoldAnswers) -> None:
        """Keep answers under a key; raises UnwrittenError where the disk has no room."""
        if self.path is None:
            return
        content = io.BytesIO()
        np.savez(
            content,
            log_probabilities=answers.log_probabilities,
            fit_seconds=answers.fit_seconds,
            seconds_a_row=answers.seconds_a_row,
        )
        write_atomically(self._name(key, _ANSWERS), content.getvalue())

    def resume(self, key: Mapping[str, Any]) -> Resumption | None:
        """Where a fit stands that an earlier command began under a key, and where it is kept; None: nowhere."""
        if self.path is None:
            return None
        from fewtune.engine.resuming import Resumption

        return Resumption(self._name(key, _FIT), FIT_EVERY_SECONDS, FIT_SHARE)

    def load_seconds(self, command: Mapping[str, Any]) -> float | None:
        """What earlier commands spent that asked the same; None where there are none, or it cannot be read."""
        if self.path is None:
            return None
        try:
            seconds = json.loads(self._name(command, _SECONDS).read_bytes())["seconds"]
            return float(seconds)
        except (*_UNREADABLE, TypeError):
            return None

    def keep_seconds(self, command: Mapping[str, Any], seconds: float) -> None:
        """Keep what was spent so far; raises UnwrittenError where the disk has no room."""
        if self.path is not None:
            write_atomically(self._name(command, _SECONDS), json.dumps({"seconds": seconds}).encode())

    def remove(self) -> None:
        """Let go of all that is kept, for the model is saved; what else a user has in the folder stays there."""
        if self.path is None or not self.path.is_dir():
            return
        for pattern in (*(f"{_HEX}{ending}" for ending in (_ANSWERS, _FIT, _SECONDS)), f".*{PART}"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)
        if is_empty(self.path):
            self.path.rmdir()

    def _name(self, key: Mapping[str, Any], ending: str) -> Path:
        assert self.path is not None
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.path / f"{digest[:_DIGITS]}{ending}"
