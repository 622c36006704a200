"""The style of every chart: its size, margins, axes and titles.

Owns what charts have in common. Does not know what a chart shows (`charts`) or how it is drawn (`svg`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import altair as alt
from altair.utils.schemapi import debug_mode

from fewtune.report.palette import CARD, GRID, INK, QUIET
from fewtune.report.wrapping import wrap_text
from fewtune.system.terminal import make_safe

TITLE_SIZE, SUBTITLE_SIZE, HEADER_SIZE = 16, 13, 13
LETTER = 0.53
"""How wide a letter is, as a share of its size: the mean of words."""
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"


@dataclass(frozen=True)
class Room:
    """How much room a chart has, for its letters are not to shrink with it."""

    name: str
    width: int
    """Pixels across for panels, names and axes."""
    padding: int
    font_size: int
    """Of names, in pixels."""
    name_columns: int
    """Letters of a name in a line."""


WIDE = Room("wide", 880, padding=16, font_size=13, name_columns=30)
"""A file of its own, and a page on a screen."""
NARROW = Room("narrow", 320, padding=8, font_size=12, name_columns=20)
"""A page on a phone."""


def name_data(name: str) -> alt.NamedData:
    """Rows that a chart reads by name; `finish_chart` is given them."""
    return alt.NamedData(name=name)


def build_fast() -> AbstractContextManager[None]:
    """Within it Altair does not check each part of a chart against its schema: tests draw all with the checks."""
    return debug_mode(False)


Part = dict[str, Any]
"""A part of a chart as plain values: Altair copies charts at every step, and its own objects slowly."""


def make_axis(**options: Any) -> Part:
    """An axis; `options` are Vega-Lite's."""
    return {"titleFontWeight": "normal", "titlePadding": 10, "labelPadding": 6, **options}


def make_marks(kind: str, data: Any = alt.Undefined, **options: Any) -> alt.Chart:
    """A layer of marks of Vega-Lite's `kind`; `options` are its too."""
    return alt.Chart(data, mark=cast("Any", {"type": kind, **options}))


def make_scale(**options: Any) -> Part:
    """A scale; `options` are Vega-Lite's."""
    return options


def make_header() -> Part:
    """What stands over a panel of a chart in panels, each line of its name by itself (`names`)."""
    return {
        "labelFontSize": HEADER_SIZE,
        "labelFontWeight": "bold",
        "labelColor": INK,
        "labelAnchor": "start",
        "labelLimit": 0,
        "labelExpr": "split(datum.label, '\\n')",
    }


def make_title(text: str, subtitle: str, room: Room = WIDE) -> Part:
    """A chart's title, and below it what its marks mean."""
    return {
        "text": _wrap(text, room, TITLE_SIZE),
        "subtitle": _wrap(subtitle, room, SUBTITLE_SIZE),
        "anchor": "start",
        "fontSize": TITLE_SIZE,
        "subtitleFontSize": SUBTITLE_SIZE,
        "subtitlePadding": 6,
        "offset": 14,
    }


def _wrap(text: str, room: Room, size: int) -> list[str]:
    return wrap_text(text, int(room.width / (0.9 * LETTER * size))).split("\n") if text else []


def mark_logarithmic(first: float, last: float) -> list[float]:
    """Where a logarithmic axis from `first` to `last` has its ticks."""
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    # Under two decades, powers of ten alone would leave the axis bare.
    steps = (1, 2, 5) if last / first < 100 else (1,)
    return [t for t in (step * 10.0**power for power in powers for step in steps) if first <= t <= last]


LOOK: Part = {
    "background": CARD,
    "font": FONT,
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "title": {"color": INK, "subtitleColor": QUIET},
}
"""What every chart's configuration says, beside its padding and its frame."""


def finish_chart(chart: Any, datasets: Mapping[str, list[dict[str, Any]]], room: Room = WIDE) -> dict[str, Any]:
    """The Vega-Lite specification of an Altair chart, with the look of all and the rows that its parts name."""
    specification: dict[str, Any] = chart.to_dict(validate=False)
    # Put in last: Altair copies what a chart holds at every step.
    config = specification["config"]
    whole = {
        **specification,
        "config": {**config, **LOOK, "padding": room.padding, "view": {**config["view"], "stroke": None}},
        "datasets": {**specification.get("datasets", {}), **datasets},
    }
    return cast("dict[str, Any]", _make_safe(whole))


def _make_safe(value: Any) -> Any:
    """Users' words without control characters, which no XML may hold: in all places alike, so that names match."""
    if isinstance(value, str):
        return make_safe(value)
    if isinstance(value, Mapping):
        return {name: _make_safe(inner) for name, inner in value.items()}
    return [_make_safe(inner) for inner in value] if isinstance(value, (list, tuple)) else value
