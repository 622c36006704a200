"""The label of rows that belong to none of the others, and an offset that makes a model give it often enough.

Owns what is added to its log-probability, and how that is chosen: by rows that the answering models had not seen, so
that the mean of two shares is largest, rows of the other labels that are answered right and rows of this one that are
found. Few rows of none are fitted on as a rule, and what comes later is of more kinds than they are: as one label among
others it is given too seldom. Source: Larson et al. 2019, https://arxiv.org/abs/1909.02027 (both shares, side by side).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fewtune.errors import FewtuneError, find_near, list_names
from fewtune.plurals import pluralise
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.stack import StackScorer, stack_predictors
from fewtune.predictors.temperature import normalise
from fewtune.tasks.base import Task

OFFSETS = np.arange(0.0, 6.01, 0.25)
"""What is tried, in the logarithm: 6 makes it 400 times as likely."""
FEWEST_ROWS = 2
"""Rows of none, so that a fold can have one."""


@dataclass(frozen=True)
class NoneLabel:
    """What is added to a label's log-probability, and what that does to rows the models had not seen."""

    label: str
    offset: float
    rows: int
    """Of this label."""
    found: int
    found_before: int
    others: int
    """Rows of all other labels."""
    right: int
    right_before: int


def check_none_label(task: Task, label: str, folds: int | None) -> None:
    """Raise FewtuneError where a label cannot be that of rows of none."""
    if folds == 0:
        raise FewtuneError(
            "0 folds: how readily the label of rows of none is given is chosen by folds. Give 2 or more."
        )
    if label not in task.labels:
        near = find_near(label, task.labels)
        hint = "" if near is None else f" Did you mean {near!r}?"
        raise FewtuneError(
            f"no row has {label!r}, the label of rows of none.{hint} The labels are {list_names(task.labels)}."
        )
    if len(task.labels) < 3:
        raise FewtuneError(
            f"{label!r} cannot be the label of rows of none: there is one other label, and two or more are needed."
        )
    place = task.labels.index(label)
    rows = sum(row.label == place for row in task.train)
    if rows < FEWEST_ROWS:
        raise FewtuneError(
            f"{label!r}, the label of rows of none, has {pluralise(rows, 'row')}: give {FEWEST_ROWS} or more."
        )


def choose_offset(
    log_probabilities: np.ndarray, gold: npt.NDArray[np.int64], label: str, place: int
) -> tuple[NoneLabel, np.ndarray]:
    """What is added to a label's log-probability, from log-probabilities (rows, labels) of rows whose labels are gold
    (rows,); and these with it. Of offsets as good it is the smallest.
    """
    none = gold == place

    def count(offset: float) -> tuple[int, int]:
        right = _shift(log_probabilities, place, offset).argmax(axis=1) == gold
        return int(right[~none].sum()), int(right[none].sum())

    counts = [count(offset) for offset in OFFSETS]
    means = [right / max((~none).sum(), 1) + found / max(none.sum(), 1) for right, found in counts]
    best = int(np.argmax(means))
    (right, found), (right_before, found_before) = counts[best], counts[0]
    learnt = NoneLabel(
        label=label,
        offset=float(OFFSETS[best]),
        rows=int(none.sum()),
        found=found,
        found_before=found_before,
        others=int((~none).sum()),
        right=right,
        right_before=right_before,
    )
    return learnt, _shift(log_probabilities, place, learnt.offset)


def add_offset(predictor: Predictor, place: int, offset: float) -> Predictor:
    """The predictor that adds an offset to a label's log-probability: a stack of it alone, or the stack that it is."""
    bias = [offset if label == place else 0.0 for label in range(len(predictor.labels))]
    if not offset:
        return predictor
    if isinstance(predictor.scorer, StackScorer):  # whose scores are divided by its temperature afterwards
        scorer = replace(predictor.scorer, bias=tuple(predictor.temperature * each for each in bias))
        return replace(predictor, scorer=scorer)
    return replace(stack_predictors([predictor], [1.0], bias), origin=predictor.origin)


def _shift(log_probabilities: np.ndarray, place: int, offset: float) -> np.ndarray:
    shifted = log_probabilities.copy()
    shifted[:, place] += offset
    return normalise(shifted)
