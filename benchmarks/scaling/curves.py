"""What is swept, over which values and for which works, and the power of it by which a measurement grows.

Owns the values and the least squares. Does not know how a point is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import linregress

SCORING = "scoring"
FITS: Mapping[str, str] = {"all-weights": "all weights", "lora": "LoRA", "last-blocks": "last 4 blocks"}
"""The race's works that are fits, and what trains in them."""
WORKS: Mapping[str, str] = {**FITS, SCORING: "scoring"}
MEASURED = ("seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Curve:
    """`unit`: what the values count; `each`: what the seconds are of."""

    unit: str
    each: str
    values: tuple[int, ...]
    works: tuple[str, ...] = tuple(FITS)


CURVES: Mapping[str, Curve] = {
    "shots": Curve("labelled rows", "one epoch, 16 rows a step", (16, 32, 64, 128, 256, 512, 1024)),
    "tokens": Curve("tokens a row", "one step, or scoring, of 16 rows", (16, 32, 64, 128, 256, 512), tuple(WORKS)),
    "blocks": Curve("blocks of the model", "one step of 16 rows", (5, 10, 20, 30)),
    "batch": Curve("rows a step", "one epoch of 16 rows", (1, 2, 4, 8, 16)),
    "labels": Curve("labels", "one step of 16 rows, words of two tokens", (2, 8, 32, 77), ("all-weights", "lora")),
    "words": Curve("tokens a label word", "one step of 16 rows, four labels", (1, 2, 4, 8), ("all-weights", "lora")),
}


def find_points(points: Sequence[dict[str, Any]], curve: str, work: str) -> list[dict[str, Any]]:
    """A curve's points for a work, by value."""
    return sorted((p for p in points if (p["curve"], p["work"]) == (curve, work)), key=lambda p: int(p["value"]))


def fit_exponent(values: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """The exponent of a power law through three points or more, and its standard error: least squares of logarithms."""
    line = linregress(np.log(values), np.log(measured))
    return float(line.slope), float(line.stderr)
