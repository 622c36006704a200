"""fewtune's side of a cell: the command that makes its model, and what the saved model says of itself.

Owns both, so that they can follow the command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.take_home.side import LABEL, TRAIN

MODEL = "model"
"""The folder that the command saves the model in."""


@dataclass(frozen=True)
class Stated:
    """What a card says: of which metric, the score and the ends of its interval, and what the choice may lose."""

    method: str | None
    model: str | None = None
    metric: str | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    expected_loss: float | None = None


def write_command(fields: Sequence[str], options: Sequence[str]) -> list[str]:
    """What a user types in the folder of the rows."""
    texts = [word for field in fields for word in ("--text", field)]
    return [sys.executable, "-m", "fewtune.cli", "fit", TRAIN, *texts, "--label", LABEL, "--save", MODEL, *options]


def read_stated(folder: Path) -> Stated:
    """What the manifest of a saved model states; what it does not state is None."""
    origin: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["origin"]
    metrics = origin.get("out_of_fold", {}).get("metrics", {})
    score, low, high = metrics.get("accuracy", (None, None, None))
    return Stated(
        method=origin.get("method"),
        model=origin.get("model"),
        metric="accuracy" if score is not None else None,
        score=score,
        low=low,
        high=high,
    )
