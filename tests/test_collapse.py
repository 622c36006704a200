"""Fits that answer one label for everything are seen without test labels, and made again with another seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from fewtune.engine.fit import FitReport
from fewtune.methods.plan import Plan
from fewtune.running.collapse import MOST_FITS, fit_again_where_collapsed, has_collapsed
from fewtune.tasks.base import Draw, Example

LABELLED = tuple(Example(f"s{n}", {"text": str(n)}, n % 2) for n in range(12))
POOL = tuple(Example(f"p{n}", {"text": str(n)}, None) for n in range(12, 16))


class Answering:
    """A plan that was fitted and gives each row the answer that is told by its number."""

    fitting = object()

    def __init__(self, *answers: int, finite: bool = True) -> None:
        self._answers, self._finite = answers, finite
        self.asked: list[str] = []

    def score(self, rows: Sequence[Example]) -> np.ndarray:
        assert all(row.label is None for row in rows), "it sees no label"
        self.asked += [row.row_id for row in rows]
        places = [int(row.fields["text"]) % len(self._answers) for row in rows]
        scores = np.log(np.eye(2)[[self._answers[place] for place in places]] * 0.8 + 0.1)
        return scores if self._finite else scores * np.nan


def plan(*answers: int, **options: Any) -> Plan:
    return cast(Plan, Answering(*answers, **options))


def draw(support: Sequence[Example] = LABELLED, pool: Sequence[Example] = POOL) -> Draw:
    return Draw(tuple(support), tuple(pool), (), "draw")


@pytest.mark.parametrize(
    ("answers", "collapsed"), [((0,), True), ((1,), True), ((0, 1), False), ((0,) * 15 + (1,), False)]
)
def test_one_answer_for_support_and_pool_is_a_collapse(answers: tuple[int, ...], collapsed: bool) -> None:
    assert has_collapsed(plan(*answers), draw()) == collapsed


def test_rows_of_each_label_are_asked_first_and_no_more_than_are_needed() -> None:
    asked = Answering(0, 1)
    assert not has_collapsed(cast(Plan, asked), draw())
    assert asked.asked == [f"s{n}" for n in range(8)]


def test_a_draw_of_one_label_and_what_trains_nothing_have_not_collapsed() -> None:
    assert not has_collapsed(plan(0), draw(support=LABELLED[::2]))
    frozen = Answering(0)
    frozen.fitting = None  # type: ignore[assignment]
    assert not has_collapsed(cast(Plan, frozen), draw())


def test_scores_that_are_no_numbers_are_left_to_be_told_as_such() -> None:
    assert not has_collapsed(plan(0, finite=False), draw())


@pytest.mark.parametrize(("good_at", "attempts", "collapsed"), [(0, 1, 0), (1, 2, 1), (2, 3, 2), (9, MOST_FITS, 2)])
def test_a_collapsed_fit_is_made_again_at_most_twice(good_at: int, attempts: int, collapsed: int) -> None:
    tried: list[int] = []

    def fit(attempt: int) -> tuple[Plan, FitReport | None]:
        tried.append(attempt)
        return plan(0, 1) if attempt == good_at else plan(0), None

    found = fit_again_where_collapsed(fit, draw())
    assert tried == list(range(attempts)) and found.collapsed == collapsed and not found.out_of_time


def test_a_collapsed_fit_stands_where_there_is_no_time_for_another() -> None:
    tried: list[int] = []

    def fit(attempt: int) -> tuple[Plan, FitReport | None]:
        tried.append(attempt)
        return plan(0), None

    taken: list[float] = []

    def has_time(seconds: float) -> bool:
        taken.append(seconds)
        return len(taken) < 2

    found = fit_again_where_collapsed(fit, draw(), has_time=has_time)
    assert tried == [0, 1] and found.collapsed == 1 and found.out_of_time
    assert all(0 <= seconds < 10 for seconds in taken)
