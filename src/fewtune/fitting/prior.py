"""The prior of a candidate: how candidates of its kind scored on other files of about as many rows.

Owns the table and how it is read. `python -m benchmarks.candidates` makes it from its records, of files on which
nothing is tested that `benchmarks.take_home` reports. By whether a row has one text or two, and by rows, it has the
mean over files of each kind's accuracy less that of one kind, the base; how far a file is off that mean; and the share
of rows that the base got wrong. Where the base gets fewer wrong there is less to gain, and as much to lose.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("prior.json")
TEXTS = {1: "one text", 2: "two texts"}
"""The table's names of the numbers of a row's texts."""
BASE = "embeddings (mpnet-base)"
"""The kind that others are told as differences of."""


@dataclass(frozen=True)
class Prior:
    """What a candidate's accuracy is expected to be beside others', before any row is looked at."""

    mean: float
    """In shares of rows, from a level that is all candidates' alike."""
    spread: float
    """Standard deviation from one file to another; infinite where nothing is known."""
    error: float | None = None
    """The share of rows that the base got wrong in these files; None where that is not known."""

    def scale_gain(self, error: float) -> Prior:
        """What is expected where the base gets the share `error` wrong: a smaller gain where that is less than there.

        A loss, or a prior whose files' error is unknown, stays as it is.
        """
        if self.error is None or self.mean <= 0:
            return self
        share = min(1.0, error / self.error)
        return replace(self, mean=share * self.mean, spread=share * self.spread)


FLAT = Prior(0.0, math.inf)


def find_prior(kind: str, rows: int, texts: int) -> Prior:
    """What is expected of a kind of candidate on so many rows of so many texts.

    Between numbers of rows in the table its figures are interpolated by the logarithm; outside it the nearest hold.
    """
    table = _read_table(TABLE).get(TEXTS.get(texts, ""), {})
    known = {int(count): found for count, found in table.items() if kind in found["kinds"]}
    if not known:
        return FLAT
    counts = sorted(known)

    def interpolate(values: Sequence[float]) -> float:
        return float(np.interp(math.log(rows), np.log(counts), values))

    mean, spread = (interpolate([known[count]["kinds"][kind][told] for count in counts]) for told in ("mean", "spread"))
    return Prior(mean, spread, interpolate([known[count]["base_error"] for count in counts]))


def pool_priors(members: Sequence[Prior]) -> Prior:
    """What is expected of a stack: what is of its best member."""
    return max(members, key=lambda each: (math.isinf(each.spread), each.mean))


@cache
def _read_table(file: Path) -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["texts"]
    return table
