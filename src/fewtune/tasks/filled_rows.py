"""Selects the rows of a file that have a text and a label, and reports the others by number.

Owns what is done with empty cells. Does not know what a label may be (`label_column`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fewtune.data.row_files import RowFile
from fewtune.errors import DataError, list_names
from fewtune.plurals import pluralise

Missing = Literal["refuse", "drop"]


@dataclass(frozen=True)
class FilledRows:
    """Rows that have every cell that is read."""

    cells: Mapping[int, Mapping[str, str]]
    """Texts and label by column, by the row's number from 1."""
    notes: tuple[str, ...]
    """What is told of the rows that are left out."""


def find_filled(file: RowFile, texts: Sequence[str], label: str, missing: Missing) -> FilledRows:
    """The rows with a text in each of these columns and a label; those without any cell are left out.

    Raises DataError naming every other row where `missing` is "refuse", and where no row is left.
    """
    filled: dict[int, dict[str, str]] = {}
    lacking: dict[int, str] = {}
    blank = 0
    for number, row in enumerate(file.rows, start=1):
        # A row of JSON Lines may lack a column; where rows are refused, that is told as what it is.
        present = [column for column in (*texts, label) if missing == "refuse" or column in row]
        cells = dict.fromkeys((*texts, label)) | {column: file.read_cell(number, column) for column in present}
        found = {column: text for column, text in cells.items() if text is not None}
        if len(found) == len(cells):
            filled[number] = found
        elif all(map(_is_blank, row.values())):  # a spreadsheet's lines below the last row
            blank += 1
        else:
            lacking[number] = next(column for column, text in cells.items() if text is None)
    if lacking and missing == "refuse":
        raise DataError(f"{file.path}: {_format_lacking(lacking, label)}")
    if not filled:
        raise DataError(f"{file.path}: no row has both a text and a label. Give a file of labelled rows.")
    notes = [f"{pluralise(blank, 'row')} without any filled cell left out."] if blank else []
    notes += [f"{_name_rows(lacking)} without a text or a label left out."] if lacking else []
    return FilledRows(filled, tuple(notes))


def _is_blank(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _format_lacking(lacking: Mapping[int, str], label: str) -> str:
    drop = "`--missing drop` of `fewtune fit`, `missing: drop` in a study, leaves such rows out."
    if len(lacking) == 1:
        [(number, column)] = lacking.items()
        what = "label" if column == label else "text"
        return f"row {number} has no {what} in column {column!r}. Fill the cell in, or leave the row out. {drop}"
    columns = list_names(repr(column) for column in dict.fromkeys(lacking.values()))
    return f"{_name_rows(lacking)} have an empty cell in {columns}. Fill the cells in, or leave the rows out. {drop}"


def _name_rows(lacking: Mapping[int, str]) -> str:
    """How many, and which: the first ones where they are many."""
    return f"{pluralise(len(lacking), 'row')} ({list_names(map(str, lacking), 10)})"
