"""Detects fits that collapsed to one label, and fits them again with another seed.

Owns how a collapse is seen, without any test label, and how often a fit is tried. A fit that ends there is luck of its
initialisation and order, and no property of a method: few draws would not show how often it comes.
Source: Mosbach et al. 2021, https://arxiv.org/abs/2006.04884 (failed fits of few rows).
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from fewtune.tasks.base import Draw, Example

if TYPE_CHECKING:
    from fewtune.engine.fit import FitReport
    from fewtune.methods.plan import Plan

MOST_FITS = 3
"""The first and two more."""
FIRST_ROWS = 8
"""Rows that are asked first: a fit that did not collapse gives two labels among them as a rule."""


@dataclass(frozen=True)
class Fitted:
    """A plan after its fit, and how many fits before it had collapsed."""

    plan: Plan
    report: FitReport | None
    collapsed: int = 0
    out_of_time: bool = False
    """Whether it has collapsed itself, and there was no time to fit it again."""


def always(seconds: float) -> bool:
    """There is time for any fit."""
    return True


def fit_again_where_collapsed(
    fit: Callable[[int], tuple[Plan, FitReport | None]],
    draw: Draw,
    most: int = MOST_FITS,
    has_time: Callable[[float], bool] = always,
) -> Fitted:
    """Fit by `fit(attempt)`, attempts from 0, until one has not collapsed; the last one stands in any case.

    So does one after which there is no time for as many seconds as it took (`has_time`).
    """
    for attempt in range(most - 1):
        began = time.perf_counter()
        plan, report = fit(attempt)
        seconds = time.perf_counter() - began
        if not has_collapsed(plan, draw):
            return Fitted(plan, report, attempt)
        if not has_time(seconds):
            return Fitted(plan, report, attempt, out_of_time=True)
        del plan  # or the next network would stand beside it
        gc.collect()
    return Fitted(*fit(most - 1), most - 1)


def has_collapsed(plan: Plan, draw: Draw) -> bool:
    """Whether what was fitted gives all labelled and unlabelled rows of its draw one answer, where labels are several.

    Nothing that trains nothing has, and no draw of one label shows it.
    """
    if plan.fitting is None or len({row.label for row in draw.support}) < 2:
        return False
    answers: set[int] = set()
    for rows in _take_parts([*_take_labels_in_turn(draw.support), *draw.pool]):
        scores = plan.score([row.without_label() for row in rows])
        if not np.isfinite(scores).all():
            return False  # it diverged, which is told as such
        answers |= set(scores.argmax(axis=1).tolist())
        if len(answers) > 1:
            return False
    return True


def _take_labels_in_turn(support: Sequence[Example]) -> Iterator[Example]:
    by_label: dict[int | None, list[Example]] = defaultdict(list)
    for row in support:
        by_label[row.label].append(row)
    return (row for row in chain(*zip_longest(*by_label.values())) if row is not None)


def _take_parts(rows: Sequence[Example]) -> Iterator[Sequence[Example]]:
    yield rows[:FIRST_ROWS]
    if len(rows) > FIRST_ROWS:
        yield rows[FIRST_ROWS:]
