"""Reads rows of a Parquet file so that a damaged file raises an error and does not end the process.

Owns reading it whole or part by part, after a trial in a process of its own, `python -m fewtune.data.parquet WAY FILE`:
the reader's checks do not cover every damage, and it then panics, or ends its process. Does not know what a column
means.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import DataError

if TYPE_CHECKING:
    import polars as pl

FEW_ROWS = 100_000
"""Rows that a file of any size may hold; beyond, no more than bytes: rows that differ need one each at least."""
FEW_BYTES = 2**26
"""Bytes of text that a file of any size may hold; beyond, no more than `MOST_EXPANSION` times its own."""
MOST_EXPANSION = 1000
PART_ROWS = 1024
"""Rows of a file that are held at a time where it is read part by part."""
MOST_SECONDS = 900.0
"""How long the trial reading may take."""
_REFUSED = 3
"""The trial reading's exit status where it says what is wrong."""


@dataclass(frozen=True)
class Frame:
    """The rows with their plain values by column, the columns in order, and why some of them hold no plain values."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    unreadable: dict[str, str]


def read_parquet(path: Path) -> Frame:
    """Read a file's rows; raises DataError where it is damaged, no Parquet, or holds too much."""
    _try_apart("whole", path)
    try:
        return _read(path)
    except _NotReadError as error:
        raise DataError(f"{path}: {error}") from error


def stream_parquet(path: Path) -> tuple[tuple[str, ...], Iterator[dict[str, Any]], dict[str, str]]:
    """A file's columns, its rows as they are asked for, and why some columns hold no plain values.

    A few thousand rows are held at a time, and the compressed parts that they stand in. Raises DataError as
    `read_parquet` does.
    """
    _try_apart("parts", path)
    try:
        columns, unreadable = _read_schema(path)
    except _NotReadError as error:
        raise DataError(f"{path}: {error}") from error
    return columns, _name_errors(path, unreadable), unreadable


def _name_errors(path: Path, unreadable: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        for part in _read_parts(path, unreadable):
            yield from part
    except _NotReadError as error:
        raise DataError(f"{path}: {error}") from error


def _try_apart(way: str, path: Path) -> None:
    command = [sys.executable, "-P", "-X", "utf8", "-m", "fewtune.data.parquet", way, str(path)]
    try:
        tried = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path}: reading it takes more than {MOST_SECONDS:.0f} seconds. Write it again.") from error
    if tried.returncode == _REFUSED:
        raise DataError(f"{path}: {tried.stdout.strip()}")
    if tried.returncode < 0:
        name = signal.Signals(-tried.returncode).name
        raise DataError(f"{path}: cannot be read as Parquet (the reader was ended by {name}). Write it again.")
    if tried.returncode > 0:
        raise RuntimeError(f"the trial reading of {path} failed: {tried.stderr.strip()}")


class _NotReadError(Exception):
    """What is wrong with the file, in words."""


def _read(path: Path) -> Frame:
    import polars as pl

    try:
        count = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        size = path.stat().st_size
        if count > max(FEW_ROWS, size):
            raise _NotReadError(f"it holds {count} rows in {size} bytes: they repeat each other. Write each once.")
        frame = pl.read_parquet(path, glob=False)
        unreadable = {name: why for name, kind in frame.schema.items() if (why := _refuse_type(kind, name)) is not None}
        plain = frame.select(pl.exclude([*unreadable])) if unreadable else frame
        texts = [name for name, kind in plain.schema.items() if kind in (pl.String, pl.Categorical, pl.Enum)]
        length = sum(int(plain[name].cast(pl.String).str.len_bytes().cast(pl.UInt64).sum()) for name in texts)
        if length > max(FEW_BYTES, MOST_EXPANSION * size):
            raise _NotReadError(f"its texts have {length} bytes in {size}: they repeat each other. Write each once.")
        rows = list(plain.iter_rows(named=True)) if plain.width else [{} for _ in range(frame.height)]
        return Frame(tuple(frame.columns), rows, unreadable)
    except _list_failures() as error:
        raise _format_failure(error) from error


def _list_failures() -> tuple[type[BaseException], ...]:
    """What the readers raise where a file is damaged."""
    import polars as pl

    return (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, OverflowError)


def _format_failure(error: BaseException) -> _NotReadError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return _NotReadError(f"cannot be read as Parquet ({first}). Write it again.")


def _read_schema(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """A file's columns in order, and why some of them hold no plain values."""
    import polars as pl

    try:
        kinds = pl.scan_parquet(path, glob=False).collect_schema()
    except _list_failures() as error:
        raise _format_failure(error) from error
    return tuple(kinds), {name: why for name, kind in kinds.items() if (why := _refuse_type(kind, name)) is not None}


def _read_parts(path: Path, unreadable: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    """A file's rows, a few thousand at a time, with the values that `_read` gives."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without a memory map and without reading ahead, so that no more is held than is asked for.
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            names = [name for name in file.schema_arrow.names if name not in unreadable]
            for batch in file.iter_batches(PART_ROWS, columns=names, use_threads=False):
                part = pl.DataFrame(pl.from_arrow(batch)) if names else pl.DataFrame()
                yield list(part.iter_rows(named=True)) if part.width else [{} for _ in range(batch.num_rows)]
    except (*_list_failures(), pa.ArrowException) as error:
        raise _format_failure(error) from error


def _check_parts(path: Path) -> None:
    """Read all of a file part by part; it may hold any length of text, but not rows without end."""
    columns, unreadable = _read_schema(path)
    count = sum(len(part) for part in _read_parts(path, unreadable)) if columns else 0
    size = path.stat().st_size
    if count > max(FEW_ROWS, size):
        raise _NotReadError(f"it holds {count} rows in {size} bytes: they repeat each other. Write each once.")


def _refuse_type(kind: pl.DataType, column: str) -> str | None:
    """Why a column's values are no text, number, date, or true or false; None where they are."""
    import polars as pl

    if kind == pl.Binary:
        return (
            f"holds bytes in column {column!r}, not text. Decode it and write the file again, for example with Polars: "
            f'frame.with_columns(pl.col("{column}").cast(pl.String)), or with pandas: '
            f'frame["{column}"].str.decode("utf-8").'
        )
    if kind.is_nested() or kind in (pl.Duration, pl.Object):
        what = "durations" if kind == pl.Duration else "lists or nested objects"
        return (
            f"holds {what} in column {column!r}. Text, numbers, dates and true or false are allowed: name another "
            "column, or write it as text."
        )
    return None


if __name__ == "__main__":
    try:
        if sys.argv[1] == "whole":
            _read(Path(sys.argv[2]))
        else:
            _check_parts(Path(sys.argv[2]))
    except _NotReadError as error:
        print(error)
        sys.exit(_REFUSED)
