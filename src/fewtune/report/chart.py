"""One chart as a value, and what the charts of a group have in common.

Owns names, titles and the span of an axis of scores. Which charts there are is `charts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewtune.analysis.leaderboard import LeaderboardGroup, name_test_set
from fewtune.report.look import (
    finish_chart,
)
from fewtune.report.palette import BLACK, BLUE, GREEN, VERMILION
from fewtune.report.wording import word_score

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
    """What stands over a test set's panel: its name and its majority."""
    return f"{name_test_set(test_set)}, majority {word_score(board.majority.get(test_set))}"


def span_values(values: Sequence[float], ends: Sequence[float | None] = ()) -> tuple[float, float]:
    """From where to where a score's axis goes: all values, and intervals' ends up to the values' own width further.

    Intervals of two draws reach far beyond any score: they are cut at the frame, and tables have their ends.
    """
    low, high = min(values), max(values)
    width = max(high - low, 0.1)
    known = [end for end in ends if end is not None]
    low = min(low, max(low - width, min(known, default=low)))
    high = max(high, min(high + width, max(known, default=high)))
    margin = max(0.02, 0.04 * (high - low))
    return low - margin, high + margin


def finish_group_chart(
    chart: Any,
    datasets: Mapping[str, list[dict[str, Any]]],
    board: LeaderboardGroup,
    kind: str,
    what: str,
    description: str,
) -> Chart:
    """A group's chart as a value: an Altair chart, its rows by name, its kind, its title and that in words."""
    name = name_file(board.task, board.model, f"{board.shots}-{kind}")
    return Chart(kind, name, f"{what}: {board.title}", description, finish_chart(chart, datasets))


def name_file(task: str, model: str | None, kind: str) -> str:
    """A name fit for a file, long ones cut and told apart by a hash."""
    words = "-".join(part for part in (task, model, kind) if part)
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    apart = hashlib.sha256(words.encode()).hexdigest()[:8]
    begun = name.encode()[: LONGEST_NAME - len(apart) - len(kind) - 2].decode(errors="ignore")
    return f"{begun}-{apart}-{kind}"
