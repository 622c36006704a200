"""fewtune's side of a cell: the command that makes its model, and what the saved model says of itself.

Owns both, so that they can follow the command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.take_home.side import LABEL, TRAIN
from fewtune.predictors.model_folder import MANIFEST

MODEL = "model"
"""The folder that the command saves the model in."""


@dataclass(frozen=True)
class Stated:
    """What a saved model says of itself."""

    chosen: str
    """The candidate that was chosen."""
    metric: str
    """What candidates were compared by."""
    scores: Mapping[str, Sequence[float]]
    """By metric: what is expected on rows like these, and the ends of its interval."""
    expected_loss: float | None
    """What the choice is expected to lose to the best of the candidates, in that metric."""
    settled: bool
    candidates: Sequence[Mapping[str, Any]] = ()
    """Each one's name, score by folds, rows that it was judged on and seconds of a fold's fit."""


def write_command(fields: Sequence[str], options: Sequence[str]) -> list[str]:
    """What a user types in the folder of the rows."""
    texts = [word for field in fields for word in ("--text", field)]
    return [sys.executable, "-m", "fewtune.cli", "fit", TRAIN, *texts, "--label", LABEL, "--save", MODEL, *options]


def is_saved(folder: Path) -> bool:
    """Whether the command saved a model: it may do so and still end with a code that warns of it."""
    return (folder / MANIFEST).is_file()


def read_stated(folder: Path) -> Stated | None:
    """What the manifest of a saved model states; None where nothing was chosen by folds."""
    choice: dict[str, Any] | None = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["origin"].get("choice")
    if choice is None:
        return None
    losses = {each["name"]: each["expected_loss"] for each in choice["candidates"]}
    kept = [{key: each[key] for key in ("name", "score", "rows", "fit_seconds")} for each in choice["candidates"]]
    lost = losses.get(choice["chosen"])
    return Stated(choice["chosen"], choice["metric"], choice["stated"], lost, choice["settled"], kept)
