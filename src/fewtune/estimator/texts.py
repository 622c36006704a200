"""Reads X: one or two texts a row, from lists, arrays and data frames.

Owns reading them, and refusing what is no text in one message that names row and column. Does not know labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
from narwhals.exceptions import NarwhalsError
from scipy.sparse import issparse

from fewtune.data.row_files import is_text
from fewtune.errors import ArgumentError, list_names, shorten
from fewtune.plurals import pluralise
from fewtune.tasks.columns import IN_BRACES, fits_template
from fewtune.tasks.label_column import MISSING

MOST_COLUMNS = 2


@dataclass(frozen=True)
class Texts:
    """Rows of texts: `rows` (rows, columns), and the columns' names where they have any."""

    rows: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] | None
    what: str = "X"
    """How errors call them."""

    @property
    def columns(self) -> int:
        return len(self.rows[0])

    def name_rows(self, fields: Sequence[str]) -> list[dict[str, str]]:
        """Each row's texts by field; columns are found by name where there are two that have names, else by place.

        Raises ArgumentError where there are others than these fields.
        """
        if self.columns != len(fields):
            # The words that scikit-learn's own classifiers have for it.
            raise ArgumentError(
                f"{self.what} has {self.columns} features, but FewtuneClassifier is expecting {len(fields)} features "
                f"as input: give the texts {list_names(fields)}, as in fit."
            )
        places = list(range(len(fields)))
        if self.names is not None and len(fields) > 1:
            if set(self.names) != set(fields):
                raise ArgumentError(
                    f"{self.what} has the columns {list_names(self.names)} and X was fitted on {list_names(fields)}: "
                    "name them alike."
                )
            places = [self.names.index(name) for name in fields]
        return [{name: row[place] for name, place in zip(fields, places, strict=True)} for row in self.rows]


def name_fields(texts: Texts) -> tuple[str, ...]:
    """What a model calls its texts: the columns' names, or text, or text_1 and text_2.

    Raises ArgumentError where one of two names cannot be used; one alone is found by its place.
    """
    if texts.names is None or (texts.columns == 1 and not fits_template(texts.names[0])):
        return ("text",) if texts.columns == 1 else tuple(f"text_{n + 1}" for n in range(texts.columns))
    for name in texts.names:
        if not fits_template(name):
            raise ArgumentError(f"X: the column {name!r} cannot stand in a template. Rename it without {IN_BRACES}")
    return texts.names


def read_texts(given: Any, what: str = "X") -> Texts:
    """The texts of a list, an array or a data frame; `what` is how errors call it.

    Raises ArgumentError where there is no row, a column too many, or a cell that is no text.
    """
    if given is None or isinstance(given, str | bytes | Mapping) or issparse(given):
        kinds = {bytes: "bytes", str: "one text", type(None): "missing"}
        kind = kinds.get(type(given), "a mapping" if isinstance(given, Mapping) else "a sparse matrix")
        raise ArgumentError(f"{what} is {kind}. Give rows of texts: a list, an array or a data frame.")
    names, rows = _read_frame(given, what) or _read_sequence(given, what)
    if not rows:
        raise ArgumentError(f"{what} has no rows: found 0 sample(s) while a minimum of 1 is required. Give some.")
    _check_width(names, rows, what)
    _check_cells(names, rows, what)
    texts = tuple(tuple(str(cell) for cell in row) for row in rows)
    return Texts(texts, None if names is None else tuple(str(name) for name in names), what)


Cells = tuple[Sequence[str] | None, Sequence[Sequence[Any]]]
"""Columns' names, where they have any, and rows of cells as they were given."""


def _read_frame(given: Any, what: str) -> Cells | None:
    """A data frame's or a series' cells; None where it is neither."""
    try:
        frame: Any = nw.from_native(given, eager_only=True, allow_series=True, pass_through=True)
    except NarwhalsError as error:  # two columns of one name
        raise ArgumentError(f"{what} cannot be read ({error}). Give each column a name of its own.") from error
    if isinstance(frame, nw.Series):
        cells = [(cell,) for cell in frame.to_list()]
        return (frame.name,) if isinstance(frame.name, str) and frame.name else None, cells
    if not isinstance(frame, nw.DataFrame):
        return None
    columns = [frame[:, place].to_list() for place in range(len(frame.columns))]
    named = all(isinstance(name, str) and name for name in frame.columns)
    if not columns:
        _refuse_no_columns(len(given), what)
    return tuple(frame.columns) if named else None, list(zip(*columns, strict=True))


def _read_sequence(given: Any, what: str) -> Cells:
    """The cells of an array, or of a list of texts, of pairs or of mappings."""
    if not isinstance(given, Sequence):
        kind, given = type(given).__name__, as_array(given)
        if given.ndim not in (1, 2):
            raise ArgumentError(
                f"{what} is a {kind} of {given.ndim} dimensions; 1 or 2 are allowed. Give rows of texts: reshape your "
                "data to (rows,) or (rows, texts)."
            )
        if given.ndim == 2:
            if given.shape[1] == 0:
                _refuse_no_columns(len(given), what)
            return None, list(given)
    if len(given) and isinstance(given[0], Mapping):
        return _read_mappings(given, what)
    return None, [tuple(row) if isinstance(row, list | tuple | np.ndarray) else (row,) for row in given]


def _read_mappings(given: Sequence[Any], what: str) -> Cells:
    names = tuple(given[0])
    for number, row in enumerate(given, start=1):
        if not isinstance(row, Mapping) or set(row) != set(names):
            found = list_names(map(str, row)) if isinstance(row, Mapping) else f"a {type(row).__name__}"
            raise ArgumentError(
                f"{what}: row {number} holds {found or 'nothing'} and row 1 {list_names(map(str, names))}. Give every "
                "row the same texts."
            )
    if not names:
        _refuse_no_columns(len(given), what)
    return names, [[row[name] for name in names] for row in given]


def _refuse_no_columns(rows: int, what: str) -> None:
    raise ArgumentError(
        f"{what} has no columns: found 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required. Give texts."
    )


def _check_width(names: Sequence[str] | None, rows: Sequence[Sequence[Any]], what: str) -> None:
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise ArgumentError(
                f"{what}: row {number} has {pluralise(len(row), 'cell')} and row 1 has {width}. Give each as many."
            )
    if not 1 <= width <= MOST_COLUMNS:
        shown = "" if names is None else f" ({list_names(map(str, names))})"
        raise ArgumentError(
            f"{what} has {width} columns{shown}; a row is one text or {MOST_COLUMNS}. Take the columns of text alone."
        )


def _check_cells(names: Sequence[str] | None, rows: Sequence[Sequence[Any]], what: str) -> None:
    """Raise ArgumentError naming the first cell that is no text, and how many more there are."""
    faults = [
        (number, place, fault)
        for number, row in enumerate(rows, start=1)
        for place, cell in enumerate(row)
        if (fault := _find_fault(cell)) is not None
    ]
    if not faults:
        return
    number, place, fault = faults[0]
    column = "" if len(rows[0]) == 1 else f" in column {place + 1 if names is None else repr(names[place])}"
    more = f" So it is with {len(faults) - 1} more." if len(faults) > 1 else ""
    raise ArgumentError(f"{what}: row {number} (counted from 1){column} {fault}.{more}")


def _find_fault(cell: Any) -> str | None:
    if isinstance(cell, str):
        if not cell.strip():
            return "is empty: fill the text in, or leave the row out"
        return None if is_text(cell) else "holds half a character (a lone surrogate): take it out"
    if is_missing(cell):
        return "has no text (NaN or None): fill it in, or leave the row out"
    return f"holds {shorten(str(cell), 20)}, which is no text but {type(cell).__name__}: give texts"


def as_array(given: Any) -> np.ndarray:
    """Anything as an array; what is masked is None in it."""
    if isinstance(given, np.ma.MaskedArray):
        cells = np.ma.getdata(given).astype(object)
        cells[np.ma.getmaskarray(given)] = None
        return cells
    return np.asarray(given)


def is_missing(value: Any) -> bool:
    """Whether a value is how Python, NumPy or pandas says that there is none."""
    return not isinstance(value, str) and str(value).lower() in MISSING
