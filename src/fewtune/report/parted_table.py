"""Fits a table to a terminal: columns without room go to a further table below, with the same row names.

Owns widths: a column may be as narrow as its longest word, so that no number is broken or lost; names may be broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 2
"""Spaces between two columns."""
LEAST_NAME = 12
"""Characters that a name may be broken into."""


@dataclass(frozen=True)
class Column:
    """A column's heading and its cells, a row each."""

    heading: Text
    cells: Sequence[Text]

    @property
    def widest(self) -> int:
        """The width that breaks no line."""
        return max(cell_len(line) for text in (self.heading, *self.cells) for line in text.plain.split("\n"))

    @property
    def least(self) -> int:
        """The width that breaks no word."""
        return max(cell_len(word) for text in (self.heading, *self.cells) for word in text.plain.split() or [""])


def part_table(names: Column, columns: Sequence[Column], width: int) -> list[Table]:
    """The tables, one below the other, that hold all columns within a width, each with the names first."""
    return [_build(names, part, width) for part in _part(names, columns, width)]


def _part(names: Column, columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """Columns in order, as many at a time as the width has room for; one at least."""
    taken: list[Column] = []
    room = width - min(names.widest, LEAST_NAME)
    for column in columns:
        if taken and sum(each.least + GAP for each in (*taken, column)) > room:
            yield taken
            taken = []
        taken.append(column)
    yield taken


def _build(names: Column, columns: Sequence[Column], width: int) -> Table:
    room = max(1, width - GAP * len(columns))
    widths = _narrow([names, *columns], [min(names.widest, LEAST_NAME), *(each.least for each in columns)], room)
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column(names.heading, overflow="fold", width=widths[0])
    for column, each in zip(columns, widths[1:], strict=True):
        table.add_column(column.heading, justify="right", overflow="fold", width=each)
    for cells in zip(names.cells, *(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _narrow(columns: Sequence[Column], least: Sequence[int], room: int) -> list[int]:
    """The columns' widths: as wide as their widest lines, the widest narrowed first where all find no room.

    Narrower than these least widths only where the terminal is narrower than their sum.
    """
    widths = [column.widest for column in columns]
    for bounds in (least, [1] * len(columns)):
        while sum(widths) > room:
            spare = [place for place, width in enumerate(widths) if width > bounds[place]]
            if not spare:
                break
            widths[max(spare, key=lambda place: (widths[place], -place))] -= 1
    return widths
