"""Costs beside scores, against answers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fewtune.analysis.frontier import COSTS, count_queries, find_break_evens, find_frontier, price
from fewtune.analysis.leaderboard import LeaderboardRow
from fewtune.analysis.study import analyse_folder
from study_maker import make_study


@pytest.fixture
def row(tmp_path: Path) -> LeaderboardRow:
    make_study(tmp_path, {"pattern": [0.8]})
    return analyse_folder(tmp_path).groups[0].board.rows[0]


def test_the_frontier_holds_what_no_other_equals_for_less(tmp_path: Path) -> None:
    make_study(tmp_path, {"a": [0.9], "b": [0.8], "c": [0.85], "d": [0.9], "e": [0.7]})
    board = analyse_folder(tmp_path).groups[0].board
    seconds = {"a": 50.0, "b": 10.0, "c": 5.0, "d": 60.0, "e": 5.0}
    rows = tuple(replace(row, fit_seconds=seconds[row.variant]) for row in board.rows)
    assert find_frontier(replace(board, rows=rows), COSTS["fit seconds"]) == ("c", "a")


@pytest.mark.parametrize(
    ("trained", "untrained", "queries"),
    [
        ((100.0, 0.01), (1.0, 0.04), 3300),  # 99 s more to fit, 0.03 s saved a row
        ((100.0, 0.04), (1.0, 0.04), None),  # never faster
        ((0.5, 0.01), (1.0, 0.04), 0),  # cheaper from the start
    ],
)
def test_training_pays_after(
    row: LeaderboardRow, trained: tuple[float, float], untrained: tuple[float, float], queries: int | None
) -> None:
    one, other = (replace(row, fit_seconds=fit, predict_seconds_per_row=each) for fit, each in (trained, untrained))
    assert count_queries(one, other) == queries


def test_what_trains_is_set_against_what_does_not(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8], "in_context": [0.7], "tfidf": [0.6]})
    board = analyse_folder(tmp_path).groups[0].board
    rows = tuple(replace(r, trainable_parameters=0) if r.variant == "in_context" else r for r in board.rows)
    pairs = [(each.trained, each.untrained) for each in find_break_evens(replace(board, rows=rows))]
    assert pairs == [("pattern", "in_context")]


def test_a_price_is_fitting_and_all_queries(row: LeaderboardRow) -> None:
    assert price(replace(row, fit_seconds=10.0, predict_seconds_per_row=0.02), 500) == pytest.approx(20.0)
    assert price(replace(row, fit_seconds=None), 500) is None
