"""Files of labelled rows as they stand: CSV, TSV, JSON Lines and Parquet, their columns and plain cells.

Owns reading them and refusing what is no text, each in one message that names file, row and column. Does not know which
column holds what: `own_files` says that.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from fewtune.data.files import read_jsonl, read_text
from fewtune.data.parquet import read_parquet
from fewtune.errors import DataError, list_names, name_choices

LONGEST_CELL = 1_000_000
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class RowFile:
    """A file's rows: values by column, as they stand there; `columns` are the header's, or the first row's."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold no texts, and why."""

    def read_cell(self, number: int, column: str) -> str | None:
        """A cell as text, None where it is empty; raises DataError where the 1-based row has none or it is no text."""
        row = self.rows[number - 1]
        if column in self.unreadable:
            raise DataError(f"{self.path}: {self.unreadable[column]}")
        if column not in row:
            raise DataError(f"{self.path}: row {number}: {name_choices(column, row, 'column')}")
        text = _read_value(row[column], f"{self.path}: row {number}", column)
        if text is None or not text.strip():
            return None
        if len(text) > LONGEST_CELL:
            raise DataError(
                f"{self.path}: row {number} has {len(text)} characters in column {column!r}; {LONGEST_CELL} are "
                "allowed. Look for a missing double quote there, or shorten the text."
            )
        if not is_text(text):
            raise DataError(
                f"{self.path}: row {number} holds half a character in column {column!r} (a lone surrogate, such as "
                "\\ud800): no tokenizer and no file takes it. Write the whole character, or take it out."
            )
        return text.strip()


def read_rows(path: Path) -> RowFile:
    """Read a file by its suffix; raises DataError where it cannot be read or holds no row."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}. Allowed: {', '.join(SUFFIXES)}.")
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    if not found:
        near = sorted(other.name for other in path.parent.glob("*") if other.suffix in SUFFIXES)
        raise DataError(f"{path}: there is no such file. That folder holds {list_names(near) or 'no data file'}.")
    if path.suffix == ".parquet":
        frame = read_parquet(path)
        file = RowFile(path, frame.columns, frame.rows, frame.unreadable)
    elif path.suffix == ".jsonl":
        rows = read_jsonl(path)
        file = RowFile(path, tuple(rows[0]) if rows else (), rows)
    else:
        file = _read_separated(path, "," if path.suffix == ".csv" else "\t")
    if not file.rows:
        raise DataError(f"{path}: the file is empty: it holds no rows. Give a file with labelled rows.")
    return file


def is_text(text: str) -> bool:
    """Whether a text can be written to a file: JSON's escapes can write half a character."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _read_separated(path: Path, separator: str) -> RowFile:
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line} holds a NUL character: it is no text in UTF-8. Save the file as UTF-8.")
    with _long_cells():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows: list[dict[str, str]] = []
        header: list[str] | None = None
        try:
            for cells in reader:
                if not cells:
                    continue
                if header is None:
                    header = _check_header(cells, path)
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}: row {len(rows) + 1} (line {reader.line_num}) has {len(cells)} cells, "
                        f"but the header names {len(header)} columns ({list_names(header)}). "
                        f"Put double quotes around a cell that holds a {'comma' if separator == ',' else 'tab'}."
                    )
                rows.append(dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(
                f"{path}: row {len(rows) + 1} (line {reader.line_num}) cannot be read ({error}). A cell that begins "
                'with a double quote must end with one, and doubles ("") those inside.'
            ) from error
    return RowFile(path, tuple(header or ()), rows)


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)  # the module's own limit knows no row or column: `read_cell` does
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _check_header(header: list[str], path: Path) -> list[str]:
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise DataError(f"{path}: the header names the column {repeated[0]!r} twice. Give each column its own name.")
    return header


def _read_value(value: Any, place: str, column: str) -> str | None:
    match value:
        case None:
            return None
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value != value:  # an empty cell, to those who write Parquet from pandas
            return None
        case float() if value.is_integer():
            return str(int(value))
        case int() | float() | Decimal() | date() | datetime() | time():
            return str(value)
    kind = "a list" if isinstance(value, list) else "a nested object"
    raise DataError(
        f"{place} holds {kind} in column {column!r}. Text, numbers and true or false are allowed: take the column out, "
        "or write it as text."
    )
