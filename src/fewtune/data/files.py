"""Reads text files as data sets ship them (plain text, JSON Lines, GLUE-style TSV) and detects a folder's layout.

Owns reading and the messages that name file and line. Does not know what a column means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fewtune.data.encoding import decode_text
from fewtune.data.strict_json import RepeatedKeyError, parse_json
from fewtune.errors import DataError, list_names, shorten
from fewtune.plurals import pluralise


def read_text(path: Path) -> str:
    """A whole text file, as `encoding` knows them; raises DataError naming the line that is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    return decode_text(content, str(path))


def read_jsonl(path: Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, each with `columns` or more; raises DataError naming the line."""
    return list(parse_jsonl(read_text(path).split("\n"), str(path), columns))


def parse_jsonl(lines: Iterable[str], place: str, columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The objects of lines as they are asked for, each with `columns` or more; raises DataError naming the line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: line {number} is not JSON ({error}). Write one object a line.") from error
        except RepeatedKeyError as error:
            raise DataError(
                f"{place}: line {number} has the key {shorten(error.key)!r} twice in one object, and JSON leaves open "
                "which of them counts. Take one out, or give it a name of its own."
            ) from error
        except ValueError as error:  # Python reads no integer of more digits than it is told to
            raise DataError(
                f"{place}: line {number} holds a number of thousands of digits. Write it as text."
            ) from error
        except RecursionError as error:
            raise DataError(
                f"{place}: line {number} holds lists or objects too deep in one another. Write one flat object a line."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{place}: line {number} is not a JSON object. Write one object a line.")
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError(f"{place}: line {number} has no {', '.join(missing)}. It has: {list_names(row)}.")
        yield row


def read_tsv(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """The rows of a GLUE-style TSV file, where quotes mean nothing; `columns` None: the first line names them."""
    lines = read_text(path).split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    first = 1
    if columns is None:
        if not lines:
            raise DataError(f"{path}: the file is empty; its first line must name the columns.")
        columns, first = lines[0].removesuffix("\r").split("\t"), 2
    rows: list[dict[str, str]] = []
    for number, line in enumerate(lines[first - 1 :], start=first):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(columns):
            raise DataError(
                f"{path}: line {number} has {pluralise(len(cells), 'cell')} where {len(columns)} are due "
                f"({', '.join(columns)}). Take a fresh copy of the file."
            )
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def find_layout(data_dir: Path, layouts: Sequence[Sequence[str]]) -> int:
    """The index of the first layout whose files `data_dir` holds; raises DataError naming the layouts."""
    for index, names in enumerate(layouts):
        if all((data_dir / name).is_file() for name in names):
            return index
    allowed = "; or ".join(", ".join(names) for names in layouts)
    raise DataError(f"{data_dir}: the files of this task are not here. --data-dir must hold {allowed}.")
