"""Answers rows window by window, in order, in memory that does not grow with their number.

Where answers depend on one another all rows are one window, and the memory grows.

Owns how many rows are held at a time. Does not know where rows come from (`rows`) or how they are scored: the longer
the window, the fuller the engine's passes, which take rows of alike lengths together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewtune.errors import DataError
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.rows import TextRow
from fewtune.tasks.base import Example

FIRST_ROWS = 32
"""Rows of the first window, so that first answers come soon; each next window is twice as long."""
MOST_ROWS = 512
MOST_CHARACTERS = 2**20
"""Characters at which a window ends, however few rows it has."""


@dataclass(frozen=True)
class RowAnswer:
    """A row with the probability of each label, in the predictor's order, and the label that it is given."""

    row: TextRow
    label: str | None
    """None where the model abstains, and of a row without a text."""
    probabilities: tuple[float, ...]
    """None at all of a row without a text."""


def answer_rows(predictor: Predictor, rows: Iterator[TextRow]) -> Iterator[list[RowAnswer]]:
    """The answers, a window at a time; where a row cannot be used, those before it, and then its DataError.

    All rows are one window where their answers depend on one another.
    """
    for window in split_windows(rows) if predictor.scorer.answers_alone() else _join(split_windows(rows)):
        asked = [row for row in window if row.texts]
        found = iter(_answer(predictor, asked) if asked else ())
        yield [next(found) if row.texts else RowAnswer(row, None, ()) for row in window]


def _answer(predictor: Predictor, rows: Sequence[TextRow]) -> list[RowAnswer]:
    examples = [Example(f"row {row.number}", row.texts, None) for row in rows]
    probabilities = predictor.find_probabilities(examples)
    return [
        RowAnswer(row, label, tuple(map(float, each)))
        for row, label, each in zip(rows, predictor.answer(probabilities), probabilities, strict=True)
    ]


def _join(windows: Iterator[list[TextRow]]) -> Iterator[list[TextRow]]:
    """All rows as one window; where one raises DataError, what came before it."""
    whole: list[TextRow] = []
    try:
        for window in windows:
            whole += window
    except DataError:
        if whole:
            yield whole
        raise
    if whole:
        yield whole


def split_windows(rows: Iterator[TextRow]) -> Iterator[list[TextRow]]:
    """Windows of rows; where a row raises DataError, what came before it is the last window."""
    most = FIRST_ROWS
    window: list[TextRow] = []
    held = 0
    while True:
        try:
            row = next(rows, None)
        except DataError:
            if window:
                yield window
            raise
        if row is not None:
            window.append(row)
            held += sum(map(len, (*row.texts.values(), *row.kept)))
        if window and (row is None or len(window) >= most or held >= MOST_CHARACTERS):
            yield window
            window, held, most = [], 0, min(2 * most, MOST_ROWS)
        if row is None:
            return
