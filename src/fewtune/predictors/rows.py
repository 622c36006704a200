"""Rows of a file, as a predictor reads them.

Owns which columns are read and how what cannot be used is refused. Does not know how a file is read (`row_files`).
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fewtune.data.row_files import SUFFIXES, Place, RowFile, RowStream, open_rows, parse_rows, read_cell, read_rows
from fewtune.errors import DataError, list_names, name_choices
from fewtune.plurals import word_number

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


def read_texts(path: Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """The texts of every row by column; raises DataError where a column or a text is missing."""
    file = _read(path, fields, _word_fields(fields))
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


def read_labels(path: Path, column: str | None, fields: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The label of every row as its place among these.

    Raises DataError where the column is none, or naming every label that is none of them. Without a column it is the
    only one, beside those of the texts, that holds nothing but these labels.
    """
    file, found = read_rows(path), []
    chosen = _find_label(file, fields, labels) if column is None else column
    _check_columns(file.columns, [chosen], str(path), "Name the label column with --label.")
    unknown: dict[str, list[int]] = {}
    places = {label: place for place, label in enumerate(labels)}
    for number in range(1, len(file.rows) + 1):
        said = _read_cell(file, number, chosen)
        if said in places:
            found.append(places[said])
        else:
            unknown.setdefault(said, []).append(number)
    if unknown:
        raise DataError(f"{path}: {_word_unknown(unknown, labels)}")
    return found


def _word_unknown(unknown: Mapping[str, Sequence[int]], labels: Sequence[str]) -> str:
    """Which labels a model does not know: the first with its row, and how many rows each has where several do."""
    first, rows = next(iter(unknown.items()))
    told = f"row {rows[0]}: {name_choices(first, labels, 'label')} The model was fitted on no other."
    count = sum(map(len, unknown.values()))
    if count == 1:
        return told
    counted = {label: word_number(len(numbers), "row") for label, numbers in unknown.items()}
    each = list_names(f"{label!r} ({rows})" for label, rows in counted.items())
    return f"{told} So it is with {count} rows: {each}. Leave them out to score the model on the labels that it knows."


def _find_label(file: RowFile, fields: Sequence[str], labels: Sequence[str]) -> str:
    if "label" in file.columns:
        return "label"
    left = [name for name in file.columns if name not in fields]
    known = set(labels)
    numbers = range(1, len(file.rows) + 1)
    fitting = [name for name in left if all(_reads_as(file, number, name, known) for number in numbers)]
    return fitting[0] if len(fitting) == 1 else "label"


def _reads_as(file: RowFile, number: int, column: str, labels: Collection[str]) -> bool:
    """Whether a cell is one of the labels, as training rows are read."""
    try:
        return file.read_cell(number, column) in labels
    except DataError:
        return False


def _read_stream(stream: RowStream, fields: Sequence[str], keep: Sequence[str], lacking: Lacking) -> Iterator[TextRow]:
    _check_columns(stream.columns, fields, stream.name, _word_fields(fields))
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


def _word_fields(fields: Sequence[str]) -> str:
    return f"The model reads {list_names(fields)}: name the file's columns so."


def _read_cell(file: RowFile, number: int, column: str) -> str:
    return _check_text(Place(str(file.path), number), column, file.read_cell(number, column))


def _check_text(place: Place, column: str, cell: str | None) -> str:
    if cell is None or not cell.strip():
        raise DataError(f"{place} is empty in column {column!r}. Fill the cell in, or leave the row out.")
    return cell.strip()
