"""Reads rows of a file as a predictor's texts.

Owns which columns are read and how what cannot be used is refused. Does not know how a file is read (`row_files`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fewtune.data.row_files import (
    SUFFIXES,
    Place,
    RowFile,
    RowStream,
    is_text,
    open_rows,
    parse_rows,
    read_cell,
    read_rows,
)
from fewtune.errors import DataError, find_near, list_names, name_choices, shorten
from fewtune.tasks.label_column import check_labels, find_respelt

Lacking = Literal["refuse", "blank"]
"""What is done with a row without a text: no further row is read, or it has no answer."""
STANDARD_INPUT = Path("-")
FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)


@dataclass(frozen=True)
class TextRow:
    """A row's number from 1, its texts by column, and the columns that are kept beside the answer, as they stand."""

    number: int
    texts: dict[str, str]
    """None at all where the row lacks one and is kept all the same: there is nothing to answer."""
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledRows:
    """A file's rows as a model reads them, and the label that each has there."""

    file: RowFile
    column: str
    """The one that holds the labels."""
    texts: Sequence[Mapping[str, str]]
    labels: Sequence[str]


def read_row_texts(path: Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """The texts of every row by column; raises DataError where a column or a text is missing."""
    file = _read(path, fields, _format_fields(fields))
    return [{name: _read_cell(file, number, name) for name in fields} for number in range(1, len(file.rows) + 1)]


@contextmanager
def open_texts(
    path: Path,
    fields: Sequence[str],
    keep: Sequence[str] = (),
    form: str | None = None,
    standard_input: io.BufferedReader | None = None,
    lacking: Lacking = "refuse",
) -> Iterator[Iterator[TextRow]]:
    """The rows of a file as they are asked for; `form` is one of FORMATS, in place of what the file's name says.

    `-` reads the standard input. Raises DataError where a column is missing, and at the row that cannot be used.
    """
    kind = None if form is None else f".{form}"
    if kind is not None and kind not in SUFFIXES:
        raise DataError(name_choices(form or "", FORMATS, "format"))
    if path != STANDARD_INPUT or standard_input is None:
        with open_rows(path, kind) as stream:
            yield _read_stream(stream, fields, keep, lacking)
    elif kind is None or kind == ".parquet":
        raise DataError(
            f"the standard input is {'Parquet' if kind else 'of no said format'}: give --format csv, tsv or jsonl, and "
            "Parquet as a file."
        )
    else:
        yield _read_stream(parse_rows(standard_input, "standard input", kind), fields, keep, lacking)


def read_labelled(path: Path, fields: Sequence[str], column: str | None, labels: Sequence[str]) -> LabelledRows:
    """Read the texts and the label of every row; a label may be none of `labels`, which are a model's.

    Without a column it is `label`, or the only one beside the texts that holds nothing but these labels, or else the
    only one that does in more than half of the rows. Raises
    DataError where a column, a text or a label is missing, or the column holds no labels.
    """
    file = _read(path, fields, _format_fields(fields))
    chosen = _find_label(file, fields, labels) if column is None else column
    _check_columns(file.columns, [chosen], str(path), "Name the label column with --label.")
    numbers = range(1, len(file.rows) + 1)
    texts = [{name: _read_cell(file, number, name) for name in fields} for number in numbers]
    found = {number: _read_cell(file, number, chosen) for number in numbers}
    check_labels(found, chosen, path)
    return LabelledRows(file, chosen, texts, list(found.values()))


def check_known(rows: LabelledRows, labels: Sequence[str], model: str) -> None:
    """Raise DataError where a model, called so, knows the label of no row at all."""
    if not set(labels).isdisjoint(rows.labels):
        return
    given = list(dict.fromkeys(rows.labels))
    respelt = find_respelt(given, labels)
    near = find_near(given[0], labels)
    if respelt:
        alike = list_names(f"{one!r} and {other!r}" for one, other in respelt.items())
        remedy = f"{alike} differ in spelling alone: write labels as the model has them."
    elif near is not None:
        remedy = f"Did you mean {near!r} by {shorten(given[0])!r}? Write it so, or name another column with --label."
    else:
        remedy = "Name the column of labels with --label."
    raise DataError(
        f"{rows.file.path}: no row has a label that {model} knows. Column {rows.column!r} holds "
        f"{list_names(map(repr, given))}; it knows {list_names(map(repr, labels))}. {remedy}"
    )


def read_kept(file: RowFile) -> list[dict[str, str]]:
    """Every column of every row as text, as it stands: an empty cell as '', a list or an object as JSON.

    Columns of Parquet that hold no texts (`RowFile.unreadable`) are left out. Raises DataError where a cell is no text.
    """
    columns = [name for name in file.columns if name not in file.unreadable]
    return [
        {name: _keep_cell(Place(str(file.path), number), row, name) for name in columns}
        for number, row in enumerate(file.rows, start=1)
    ]


def _keep_cell(place: Place, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        return text if is_text(text) else json.dumps(value)
    return read_cell(place, {column: value}, column) or ""


def _find_label(file: RowFile, fields: Sequence[str], labels: Sequence[str]) -> str:
    if "label" in file.columns:
        return "label"
    known = {name: _count_known(file, name, set(labels)) for name in file.columns if name not in fields}
    for least in (len(file.rows), len(file.rows) // 2 + 1):
        fitting = [name for name, count in known.items() if count >= least]
        if fitting:
            return fitting[0] if len(fitting) == 1 else "label"
    return "label"


def _count_known(file: RowFile, column: str, labels: Collection[str]) -> int:
    """How many cells of a column are one of the labels, as training rows are read; 0 where one is no text."""
    try:
        return sum(file.read_cell(number, column) in labels for number in range(1, len(file.rows) + 1))
    except DataError:
        return 0


def _read_stream(stream: RowStream, fields: Sequence[str], keep: Sequence[str], lacking: Lacking) -> Iterator[TextRow]:
    _check_columns(stream.columns, fields, stream.name, _format_fields(fields))
    _check_columns(stream.columns, keep, stream.name, "Name each column to keep with a --keep of its own.")
    repeated = [name for name in keep if keep.count(name) > 1]
    if repeated:
        raise DataError(f"--keep names {repeated[0]!r} twice. Name each column once.")
    return _read_each(stream, fields, keep, lacking)


def _read_each(stream: RowStream, fields: Sequence[str], keep: Sequence[str], lacking: Lacking) -> Iterator[TextRow]:
    for number, row in enumerate(stream.rows, start=1):
        place = Place(stream.name, number, stream.unreadable)
        cells = {name: read_cell(place, row, name) if lacking == "refuse" or name in row else None for name in fields}
        blank = lacking == "blank" and not all(cell and cell.strip() for cell in cells.values())
        texts = {} if blank else {name: _check_text(place, name, cell) for name, cell in cells.items()}
        yield TextRow(number, texts, tuple(read_cell(place, row, name) or "" for name in keep))


def _read(path: Path, columns: Sequence[str], remedy: str) -> RowFile:
    file = read_rows(path)
    _check_columns(file.columns, columns, str(path), remedy)
    return file


def _check_columns(given: Sequence[str], wanted: Sequence[str], file: str, remedy: str) -> None:
    for name in wanted:
        if name not in given:
            raise DataError(f"{file}: {name_choices(name, given, 'column')} {remedy}")


def _format_fields(fields: Sequence[str]) -> str:
    return f"The model reads {list_names(fields)}: name the file's columns so."


def _read_cell(file: RowFile, number: int, column: str) -> str:
    return _check_text(Place(str(file.path), number), column, file.read_cell(number, column))


def _check_text(place: Place, column: str, cell: str | None) -> str:
    if cell is None or not cell.strip():
        raise DataError(f"{place} is empty in column {column!r}. Fill the cell in, or leave the row out.")
    return cell.strip()
