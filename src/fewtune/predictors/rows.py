"""Rows of a file, as a predictor reads them.

Owns which columns are read and how what cannot be used is refused. Does not know how a file is read (`row_files`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtune.data.row_files import RowFile, read_rows
from fewtune.errors import DataError, name_choices

AT_ONCE = 512
"""Rows that are answered together: what is held of a file's answers at any time."""


def split_rows(texts: Sequence[dict[str, str]]) -> Iterator[Sequence[dict[str, str]]]:
    """The rows in parts of AT_ONCE."""
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE]


def read_texts(path: Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """The texts of every row by column; raises DataError where a column or a text is missing."""
    file = _read(path, fields, f"The model reads {', '.join(fields)}.")
    return [{name: _read_cell(file, number, name) for name in fields} for number in range(1, len(file.rows) + 1)]


def read_labels(path: Path, column: str, labels: Sequence[str]) -> list[int]:
    """The label of every row as its place among these; raises DataError where the column or a label is none of them."""
    file, found = _read(path, [column], "Name the label column with --label."), []
    for number in range(1, len(file.rows) + 1):
        said = _read_cell(file, number, column)
        if said not in labels:
            raise DataError(f"{path}: row {number}: {name_choices(said, labels, 'label')}")
        found.append(labels.index(said))
    return found


def _read(path: Path, columns: Sequence[str], remedy: str) -> RowFile:
    file = read_rows(path)
    for name in columns:
        if name not in file.columns:
            raise DataError(f"{path}: {name_choices(name, file.columns, 'column')} {remedy}")
    return file


def _read_cell(file: RowFile, number: int, column: str) -> str:
    cell = file.read_cell(number, column)
    if cell is None:
        raise DataError(f"{file.path}: row {number} is empty in column {column!r}. Fill the cell in, or leave it out.")
    return cell
