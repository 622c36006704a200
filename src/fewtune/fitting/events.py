"""Events that the making of a model reports to its display.

Owns the kinds of event. Sentences are made where they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fewtune.fitting.candidates import CandidateLeftOut, Portfolio
from fewtune.fitting.standing import Standings


@dataclass(frozen=True)
class Begun:
    """Candidates are about to be tried on folds of so many rows; the whole may take so many seconds, None: any."""

    portfolio: Portfolio
    rows: int
    folds: int
    seconds: float | None
    kept: Mapping[str, int]
    """Folds that an earlier command fitted, by candidate."""
    metric: str
    """That candidates are compared by."""
    earlier_seconds: float = 0.0
    """That killed commands spent of those seconds."""


@dataclass(frozen=True)
class FoldBegun:
    """A fold of a candidate is being fitted, and another one answered."""

    name: str
    fold: int
    """From 1."""
    folds: int


@dataclass(frozen=True)
class FoldEnded:
    """A fold was answered; how all candidates stand with it."""

    name: str
    fold: int
    folds: int
    seconds: float
    standings: Standings


@dataclass(frozen=True)
class Dropped:
    """A candidate gets no further fold."""

    left_out: CandidateLeftOut


@dataclass(frozen=True)
class LastFitBegun:
    """What was chosen is fitted on all rows; about so many seconds, None: not known."""

    name: str
    rows: int
    seconds: float | None
    times: int = 1
    """It trains so many times as long as its folds' models did."""


FittingEvent = Begun | FoldBegun | FoldEnded | Dropped | LastFitBegun
