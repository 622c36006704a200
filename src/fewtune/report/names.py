"""Wraps names beside a chart's rows and above its panels, without cutting them.

Owns how much room their lines take. Knows no chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from rich.cells import cell_len

from fewtune.report.look import HEADER_SIZE, LETTER, Room, make_marks
from fewtune.report.palette import INK
from fewtune.report.wrapping import wrap_text

NAMES = "names"
"""The kind of a chart's rows that `layer_names` draws."""
GAP, MARGIN = 8, 6
"""Pixels between names and what they name, and between the lines of two rows."""


def wrap_header(name: str, width: float) -> str:
    """What stands over a panel so wide, in lines: bold letters are wider."""
    return wrap_text(name, max(1, int(width / (1.1 * LETTER * HEADER_SIZE))))


@dataclass(frozen=True)
class NameColumn:
    """The names left of a chart's rows: each one's lines, and what they take."""

    lines: Mapping[str, str]
    font_size: int

    @property
    def width(self) -> float:
        """Pixels that the names and the gap behind them take, about: letters are not all as wide."""
        return GAP + LETTER * self.font_size * max(
            cell_len(line) for text in self.lines.values() for line in text.split("\n")
        )

    def measure_row(self, least: float) -> float:
        """Pixels of a row that has room for each name, and no fewer than these."""
        return max(least, MARGIN + self._line_height * max(text.count("\n") + 1 for text in self.lines.values()))

    def list_rows(self, **shared: Any) -> list[dict[str, Any]]:
        """The rows of a chart's data that `layer_names` draws; `shared` stands in each."""
        return [
            {"kind": NAMES, "method": name, "text": text, "up": -0.5 * text.count("\n") * self._line_height, **shared}
            for name, text in self.lines.items()
        ]

    def layer(self, y: alt.Y, data: Any = alt.Undefined) -> Any:
        """The layer of the names, each left of its row, its lines around the middle."""
        return (
            make_marks(
                "text",
                data,
                align="right",
                baseline="middle",
                dy={"expr": "datum.up"},
                lineBreak="\n",
                lineHeight=self._line_height,
                fontSize=self.font_size,
                color=INK,
                aria=False,
            )
            .transform_filter(f"datum.kind === '{NAMES}'")
            .encode(x=alt.value(-GAP), y=y, text=alt.Text("text:N"))
        )

    @property
    def _line_height(self) -> float:
        return self.font_size + 2


def set_names(names: Sequence[str], room: Room) -> NameColumn:
    """The column of these names in a chart of this room."""
    return NameColumn({name: wrap_text(name, room.name_columns) for name in names}, room.font_size)
