"""What all cells together say: ranks, differences, where fewtune is below a peer, and what its cards state.

Owns the arithmetic. The unit is the file: cells of one file share rows, so its cells are averaged first, and intervals
are Student's over files. Copies of a file with other shares of labels count as files of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import fmean, stdev
from typing import Any

from scipy import stats

Record = Mapping[str, Any]
Place = tuple[str, int, int]
"""File, labelled rows, sample."""
LEVEL = 0.95
DONE = "done"
BETTER: Mapping[str, int] = {"accuracy": 1, "macro_f1": 1, "log_loss": -1}
"""Each figure, and whether more of it (1) or less of it (-1) is better."""


@dataclass(frozen=True)
class Mean:
    """A mean over files, its interval (NaN on one file), and what it is of."""

    mean: float
    low: float
    high: float
    files: int
    cells: int


@dataclass(frozen=True)
class Shortfall:
    """fewtune beside the best peer of one file and size, in the mean of the samples."""

    file: str
    rows: int
    score: float
    peer: str
    peer_score: float

    @property
    def points(self) -> float:
        """How far above the best peer, in points."""
        return 100 * (self.score - self.peer_score)


@dataclass(frozen=True)
class Kept:
    """What cards state, held against test rows."""

    cells: int
    covered: int
    """Cells whose interval holds the score on test rows."""
    error: Mean
    """Stated less realised."""


def average_over_files(values: Mapping[str, Sequence[float]]) -> Mean:
    """The mean of files' means."""
    means = [fmean(each) for each in values.values() if each]
    cells = sum(map(len, values.values()))
    if not means:
        return Mean(nan, nan, nan, 0, 0)
    if len(means) == 1:
        return Mean(means[0], nan, nan, 1, cells)
    reach = stats.t.ppf((1 + LEVEL) / 2, len(means) - 1) * stdev(means) / len(means) ** 0.5
    return Mean(fmean(means), fmean(means) - reach, fmean(means) + reach, len(means), cells)


def place_records(records: Iterable[Record]) -> dict[Place, dict[str, Record]]:
    """Records by place and contender, without those that were never run. Raises ValueError where rows differ."""
    placed: dict[Place, dict[str, Record]] = {}
    for record in records:
        if record["ended"] != "not run":
            placed.setdefault((record["file"], record["rows"], record["sample"]), {})[record["contender"]] = record
    for place, own in placed.items():
        if len({record["rows_sha256"] for record in own.values()}) > 1:
            raise ValueError(f"{place}: records are of different rows")
    return placed


def rank_contenders(
    placed: Mapping[Place, Mapping[str, Record]], contenders: Sequence[str], figure: str
) -> dict[str, Mean]:
    """Mean rank of each, 1 the best, where all of them were run; ties share ranks, and no model is the last rank."""
    ranks: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    for (file, _, _), own in placed.items():
        if all(name in own for name in contenders):
            scores = [read_figure(own[name], figure) for name in contenders]
            found = stats.rankdata([inf if score is None else -BETTER[figure] * score for score in scores])
            for name, rank in zip(contenders, found, strict=True):
                ranks[name].setdefault(file, []).append(float(rank))
    return {name: average_over_files(own) for name, own in ranks.items()}


def subtract(placed: Mapping[Place, Mapping[str, Record]], first: str, second: str, figure: str) -> Mean:
    """How far a contender is above another, where both made a model."""
    found: dict[str, list[float]] = {}
    for (file, _, _), own in placed.items():
        scores = [read_figure(own[name], figure) if name in own else None for name in (first, second)]
        if scores[0] is not None and scores[1] is not None:
            found.setdefault(file, []).append(scores[0] - scores[1])
    return average_over_files(found)


def list_shortfalls(
    placed: Mapping[Place, Mapping[str, Record]], ours: str, peers: Sequence[str], figure: str
) -> list[Shortfall]:
    """Every file and size that fewtune's contender has a model of, worst first; a peer must have all its samples."""
    found = []
    for file, rows in dict.fromkeys((file, rows) for file, rows, _ in placed):
        own = [each for place, each in placed.items() if place[:2] == (file, rows) and has_model(each, ours)]
        means = {
            peer: fmean(float(each[peer][figure]) for each in own)
            for peer in peers
            if own and all(has_model(each, peer) for each in own)
        }
        if means:
            best = max(means, key=lambda peer: means[peer])
            score = fmean(float(each[ours][figure]) for each in own)
            found.append(Shortfall(file, rows, score, best, means[best]))
    return sorted(found, key=lambda each: each.points)


def hold_stated(placed: Mapping[Place, Mapping[str, Record]], ours: str, metric: str) -> Kept:
    """Stated scores with their intervals against the same metric on test rows."""
    errors: dict[str, list[float]] = {}
    covered = 0
    for (file, _, _), own in placed.items():
        stated = own[ours].get("stated") if has_model(own, ours) else None
        if stated is not None:
            score, low, high = stated["scores"][metric]
            errors.setdefault(file, []).append(score - own[ours][metric])
            covered += low <= own[ours][metric] <= high
    return Kept(sum(map(len, errors.values())), covered, average_over_files(errors))


def lose_to_hindsight(
    placed: Mapping[Place, Mapping[str, Record]], ours: str, singles: Sequence[str]
) -> tuple[Mean, Mean]:
    """How far fewtune's choice is below the best single method of each cell, and what its cards said to expect.

    Each in the metric that the choice was made by.
    """
    realised: dict[str, list[float]] = {}
    stated: dict[str, list[float]] = {}
    for (file, _, _), own in placed.items():
        tried = [name for name in singles if has_model(own, name)]
        told = own[ours].get("stated") if has_model(own, ours) else None
        if tried and told is not None and told["expected_loss"] is not None:
            best = max(float(own[name][told["metric"]]) for name in tried)
            realised.setdefault(file, []).append(best - own[ours][told["metric"]])
            stated.setdefault(file, []).append(told["expected_loss"])
    return average_over_files(realised), average_over_files(stated)


def has_model(own: Mapping[str, Record], contender: str) -> bool:
    """Whether a contender made a model at a place."""
    return contender in own and own[contender]["ended"] == DONE


def read_figure(record: Record, figure: str) -> float | None:
    """A figure of a model; None where there is none."""
    return float(record[figure]) if record["ended"] == DONE else None
