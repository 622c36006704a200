"""Reads files of labelled rows (CSV, TSV, JSON Lines, Parquet) as columns of plain cells.

Owns reading them, whole or row by row in constant memory, and refusing what is no text, each in one message that names
file, row and column. Does not know which column holds what: `own_files` says that.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from fewtune.data.encoding import decode_lines
from fewtune.data.files import parse_jsonl
from fewtune.data.parquet import read_parquet, stream_parquet
from fewtune.data.separators import SEPARATORS, find_separator
from fewtune.errors import DataError, list_names, name_choices
from fewtune.plurals import pluralise

LONGEST_CELL = 1_000_000
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_LONGEST_FIELD = 16 * LONGEST_CELL
"""Characters at which reading a cell ends: one whose closing quote is missing holds all that follows."""
_OTHER_KINDS = {
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods", ".xlsm"),
        "That is a workbook: save the sheet as a file, in Excel as 'CSV UTF-8 (Comma delimited)', in LibreOffice as "
        "'Text CSV' with the character set UTF-8.",
    ),
    ".txt": "Name it .csv where it holds cells with a separator, .tsv where that is a tab.",
    ".json": "Write one object a line and name it .jsonl.",
    ".ndjson": "Name it .jsonl.",
}
"""What to do with kinds of file that are not read."""


@dataclass(frozen=True)
class RowFile:
    """A file's rows: values by column, as they stand there; `columns` are the header's, or any row's."""

    path: Path
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Columns that hold no texts, and why."""
    separator: str = ","
    """What stands between its cells, where it has any."""

    @property
    def has_header(self) -> bool:
        """Whether a line of cells names its columns."""
        return self.path.suffix.lower() in (".csv", ".tsv")

    @cached_property
    def whole_columns(self) -> tuple[str, ...]:
        """Those of the columns that every row has: objects of JSON Lines may lack some."""
        if self.has_header:
            return self.columns
        return tuple(c for c in self.columns if c in self.unreadable or all(c in row for row in self.rows))

    def read_cell(self, number: int, column: str) -> str | None:
        """A cell as text, None where it is empty; raises DataError where the 1-based row has none or it is no text."""
        cell = read_cell(Place(str(self.path), number, self.unreadable), self.rows[number - 1], column)
        return cell.strip() if cell is not None and cell.strip() else None


@dataclass(frozen=True)
class RowStream:
    """A file's rows as they are asked for, once, each held no longer than its reader holds it."""

    name: str
    """The file, as messages call it."""
    columns: tuple[str, ...]
    rows: Iterator[Mapping[str, Any]]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    separator: str = ","


@dataclass(frozen=True)
class Place:
    """A row of a file, counted from 1, as messages call it, and the file's columns that hold no texts."""

    name: str
    row: int
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}: row {self.row}"


def read_rows(path: Path) -> RowFile:
    """Read a file by its suffix; raises DataError where it cannot be read or holds no row."""
    kind = _find_kind(path)
    if kind == ".parquet":
        frame = read_parquet(path)
        file = RowFile(path, frame.columns, frame.rows, frame.unreadable)
    else:
        with _open(path) as stream:
            found = _parse(stream, str(path), kind)
            rows = list(found.rows)
            columns = found.columns if kind != ".jsonl" else tuple(dict.fromkeys(name for row in rows for name in row))
            file = RowFile(path, columns, rows, separator=found.separator)
    if not file.rows:
        raise DataError(f"{path}: the file is empty: it holds no rows. Give a file with labelled rows.")
    return file


@contextmanager
def open_rows(path: Path, kind: str | None = None) -> Iterator[RowStream]:
    """A file's rows as they are asked for; `kind` is one of SUFFIXES, in place of the file's own.

    Raises DataError where it cannot be read or holds no row; so do the rows where they come to what cannot be read.
    """
    kind = _find_kind(path, kind)
    if kind == ".parquet":
        columns, rows, unreadable = stream_parquet(path)
        yield _check_filled(RowStream(str(path), columns, rows, unreadable))
    else:
        with _open(path) as stream:
            yield _check_filled(_parse(stream, str(path), kind))


def parse_rows(stream: io.BufferedReader, name: str, kind: str) -> RowStream:
    """A stream's rows as they are asked for, of a kind of SUFFIXES but Parquet, which must be a file."""
    return _check_filled(_parse(stream, name, kind))


def read_cell(place: Place, row: Mapping[str, Any], column: str) -> str | None:
    """A cell's text as it stands, None where there is none; raises DataError where it is no text."""
    if column in place.unreadable:
        raise DataError(f"{place.name}: {place.unreadable[column]}")
    if column not in row:
        raise DataError(f"{place}: {name_choices(column, row, 'column')}")
    text = _read_value(row[column], str(place), column)
    if text is None:
        return None
    if len(text) > LONGEST_CELL and text.strip():
        raise DataError(
            f"{place} has {len(text)} characters in column {column!r}; {LONGEST_CELL} are "
            "allowed. Look for a missing double quote there, or shorten the text."
        )
    if not is_text(text):
        raise DataError(
            f"{place} holds half a character in column {column!r} (a lone surrogate, such as "
            "\\ud800): no tokenizer and no file takes it. Write the whole character, or take it out."
        )
    return text


def is_text(text: str) -> bool:
    """Whether a text can be written to a file: JSON's escapes can write half a character."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _find_kind(path: Path, kind: str | None = None) -> str:
    suffix = path.suffix.lower() if kind is None else kind
    if suffix not in SUFFIXES:
        remedy = f" {_OTHER_KINDS[suffix]}" if suffix in _OTHER_KINDS else ""
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}. Allowed: {', '.join(SUFFIXES)}.{remedy}")
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    if not found:
        if path.is_dir():
            raise DataError(f"{path}: that is a folder. Name a file in it.")
        if path.exists():
            raise DataError(
                f"{path}: that is no file, but a pipe or a device. Save its rows to a file; `fewtune predict` reads "
                "standard input as `-`."
            )
        near = sorted(other.name for other in path.parent.glob("*") if other.suffix.lower() in SUFFIXES)
        raise DataError(f"{path}: there is no such file. That folder holds {list_names(near) or 'no data file'}.")
    return suffix


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    with stream:
        yield stream


def _check_filled(stream: RowStream) -> RowStream:
    first = next(stream.rows, None)
    if first is None:
        raise DataError(f"{stream.name}: it is empty: it holds no rows. Give one that has some.")
    return RowStream(stream.name, stream.columns, chain([first], stream.rows), stream.unreadable, stream.separator)


def _parse(stream: io.BufferedReader, name: str, kind: str) -> RowStream:
    if kind != ".jsonl":
        return _parse_separated(_refuse_nul(decode_lines(stream, name, newline=""), name), name, kind)
    rows = parse_jsonl(decode_lines(stream, name, newline="\n"), name)
    first = next(rows, None)
    return RowStream(name, () if first is None else tuple(first), rows if first is None else chain([first], rows))


def _refuse_nul(lines: Iterator[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise DataError(
                f"{name}: line {number} holds a NUL character: it is no text in UTF-8. Save the file as UTF-8."
            )
        yield line


def _parse_separated(lines: Iterator[str], name: str, kind: str) -> RowStream:
    opening = _read_opening(lines)
    filled = [place for place, line in enumerate(opening) if line.strip()]
    separator = "\t"
    if kind == ".csv" and filled:
        first, *second = (opening[place] for place in filled)
        named = re.fullmatch(r"sep=(.)[;,\t|]*\s*", first)
        if named is not None and named.group(1) in SEPARATORS:  # Excel's own way to name it, before the header
            separator, opening[filled[0]] = named.group(1), "\n"
        else:
            separator = find_separator(first, "".join(second), name)
    spaced = separator != "\t" and any(_is_spaced(opening[place], separator) for place in filled)
    cells = _read_cells(chain(opening, lines), name, separator, spaced)
    header = next(cells, None)
    if header is None:
        return RowStream(name, (), iter(()), separator=separator)
    return RowStream(name, tuple(header), _name_cells(cells, header), separator=separator)


def _read_opening(lines: Iterator[str]) -> list[str]:
    """The lines up to the second that is not blank: the header and the first row, or its first line."""
    opening: list[str] = []
    filled = 0
    while filled < 2 and (line := next(lines, None)) is not None:
        opening.append(line)
        filled += bool(line.strip())
    return opening


def _name_cells(cells: Iterable[list[str]], header: Sequence[str]) -> Iterator[dict[str, str]]:
    for row in cells:
        yield dict(zip(header, row, strict=True))


def _is_spaced(line: str, separator: str) -> bool:
    """Whether spaces stand behind a line's separators: each of them, or one before a quoted cell (`text, "label"`).

    Quotes that hold less than a cell are letters.
    """
    bare = re.sub(r'"(?:[^"]|"")*("|$)', '""', line.rstrip("\r\n"))
    first, *others = bare.split(separator)
    quoted = any(cell.startswith(" ") and cell.lstrip(" ") == '""' for cell in others)
    letters = any('"' in cell and cell.lstrip(" ") != '""' for cell in (first, *others))
    return quoted or (bool(others) and not letters and all(cell.startswith(" ") for cell in others))


def _read_cells(lines: Iterable[str], name: str, separator: str, spaced: bool = False) -> Iterator[list[str]]:
    """The header's cells, then as many of each row; raises DataError where a row has more or fewer."""
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=spaced)
    header: list[str] | None = None
    rows = 0
    while True:
        try:
            with _long_cells():
                cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{name}: row {rows + 1} (line {reader.line_num}) cannot be read ({error}). A cell that begins "
                'with a double quote must end with one, and doubles ("") those inside.'
            ) from error
        if cells is None:
            return
        if not cells:
            continue
        if separator == "\t":
            _refuse_merged(cells, name, reader.line_num)
        if header is None:
            header = _check_header(cells, name)
        elif len(cells) != len(header):
            raise DataError(
                f"{name}: row {rows + 1} (line {reader.line_num}) has {pluralise(len(cells), 'cell')}, "
                f"but the header names {pluralise(len(header), 'column')} ({list_names(header)}). "
                f"Put double quotes around a cell that holds a {SEPARATORS[separator]}."
            )
        else:
            rows += 1
        yield cells


def _refuse_merged(cells: Sequence[str], name: str, line: int) -> None:
    """Raise DataError where a quoted cell took in a tab and a line break: many files of tabs hold quotes as letters."""
    for cell in cells:
        if "\t" in cell and ("\n" in cell or "\r" in cell):
            raise DataError(
                f"{name}: a cell that ends in line {line} begins with a double quote and holds a tab and a line break: "
                "two rows would be read as one. Double each quote that is part of a text and put quotes around its "
                "cell, or write the tab of a text as a space."
            )


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)  # the module's own limit knows no row or column: `read_cell` does
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _check_header(header: list[str], name: str) -> list[str]:
    repeated = [column for column, times in Counter(header).items() if times > 1]
    if "" in repeated:
        places = list_names(str(place) for place, column in enumerate(header, start=1) if not column)
        raise DataError(f"{name}: the header names no column in places {places}. Name those columns or delete them.")
    if repeated:
        raise DataError(f"{name}: the header names the column {repeated[0]!r} twice. Give each column its own name.")
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
