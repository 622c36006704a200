"""A chart as a value, and what the charts of a group have in common.

Owns names, titles, the span of an axis of scores, and what is drawn of an interval. Which charts there are is `charts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fewtune.analysis.leaderboard import LeaderboardGroup, name_test_set
from fewtune.analysis.stability import Bounds
from fewtune.plurals import pluralise
from fewtune.report.look import Room, finish_chart
from fewtune.report.palette import BLACK, BLUE, GREEN, VERMILION
from fewtune.report.wording import MAJORITY, format_score

LONGEST_NAME = 180
"""Bytes of a file's name, without its ending: systems allow some 255, of which a file being written takes a few."""
DRAW, MEAN, BASELINE, FRONTIER, ELSEWHERE = BLUE, BLACK, VERMILION, GREEN, VERMILION
"""The colours of marks, by what they stand for."""


@dataclass(frozen=True)
class Chart:
    """One chart as a Vega-Lite specification; `name` is fit for a file, `title` and `description` say what it shows."""

    kind: str
    name: str
    title: str
    description: str
    specification: dict[str, Any]


def head_panel(board: LeaderboardGroup, test_set: str) -> str:
    """What stands over a test set's panel: its name and what the majority class scores there."""
    return f"{name_test_set(test_set)}, {MAJORITY} {format_score(board.majority.get(test_set))}"


def span_values(values: Sequence[float], ends: Sequence[float | None] = ()) -> tuple[float, float]:
    """From where to where a score's axis goes: all values, and intervals' ends up to the values' own width further.

    Intervals of few draws reach far beyond any score: they are cut at the frame, with a mark (`find_cuts`).
    """
    low, high = min(values), max(values)
    width = max(high - low, 0.1)
    known = [end for end in ends if end is not None]
    low = min(low, max(low - width, min(known, default=low)))
    high = max(high, min(high + width, max(known, default=high)))
    margin = max(0.02, 0.04 * (high - low))
    return low - margin, high + margin


@dataclass(frozen=True)
class Interval:
    """What a chart shows of a mean's interval: its ends, None where it tells nothing, and what follows the mean."""

    low: float | None
    high: float | None
    words: str


def show_interval(bounds: Bounds, draws: int) -> Interval:
    """What is shown of a mean over so many draws: no line where it has no interval, and why."""
    if bounds.low is None or bounds.high is None:
        why = "one draw" if draws == 1 else f"{pluralise(draws, 'draw')} rule out no score"
        return Interval(None, None, f", no interval: {why}")
    return Interval(bounds.low, bounds.high, f" [{format_score(bounds.low)}, {format_score(bounds.high)}]")


@dataclass(frozen=True)
class Cut:
    """An end of an interval that lies beyond its axis: which end, where the axis ends, and the end in words."""

    side: Literal["low", "high"]
    edge: float
    words: str


def find_cuts(low: float | None, high: float | None, span: tuple[float, float]) -> list[Cut]:
    """The ends of an interval that are cut off an axis of this span."""
    cuts = [Cut("low", span[0], f"goes on to {format_score(low)}")] if low is not None and low < span[0] else []
    if high is not None and high > span[1]:
        cuts.append(Cut("high", span[1], f"goes on to {format_score(high)}"))
    return cuts


def list_cuts(
    marks: Iterable[Mapping[str, Any]], span: tuple[float, float], kept: Sequence[str], named: str
) -> list[dict[str, Any]]:
    """A mark for every end that is cut: its interval's `kept` fields, the side, the axis's edge, the words on hover."""
    return [
        {key: mark[key] for key in kept}
        | {"side": cut.side, "edge": cut.edge, "tip": f"{mark[named]}: its interval {cut.words}"}
        for mark in marks
        for cut in find_cuts(mark["low"], mark["high"], span)
    ]


def format_intervals(mark: Literal["line", "band"], cut: bool, missing: bool) -> str:
    """What a chart's legend says of intervals that are cut, and of those that are missing."""
    told = " · arrowhead: it goes on beyond the axis" if cut else ""
    return told + (f" · no {mark}: too few draws for an interval" if missing else "")


def finish_group_chart(
    chart: Any,
    datasets: Mapping[str, list[dict[str, Any]]],
    board: LeaderboardGroup,
    kind: str,
    what: str,
    description: str,
    room: Room,
) -> Chart:
    """A group's chart as a value: an Altair chart, its rows by name, its kind, its title and that in words."""
    name = name_file(board.task, board.model, f"{board.shots}-{kind}")
    return Chart(kind, name, f"{what}: {board.title}", description, finish_chart(chart, datasets, room))


def name_file(task: str, model: str | None, kind: str) -> str:
    """A name fit for a file, long ones cut and told apart by a hash."""
    words = "-".join(part for part in (task, model, kind) if part)
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    apart = hashlib.sha256(words.encode()).hexdigest()[:8]
    begun = name.encode()[: LONGEST_NAME - len(apart) - len(kind) - 2].decode(errors="ignore")
    return f"{begun}-{apart}-{kind}"
