"""The look of every chart: its card, its colours by light and dark scheme, its axes and titles, and the finished SVG.

Owns what charts have in common, and how one becomes an SVG in a page or a file for a paper. Does not know what a chart
shows (`charts`). In a page each stands on its own card, follows the reader's light or dark scheme, says in a title and
a description what it shows, and keeps each mark's hover text in `data-tip`. Colours: the blue, vermilion and bluish
green of https://jfly.uni-koeln.de/color/, told apart by every common kind of colour vision; shape and position carry
the meaning without them.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

CARD, INK, QUIET, GRID = "#ffffff", "#1f2933", "#5b6673", "#e3e7ec"
BLUE, BLACK, VERMILION, GREEN = "#0072b2", "#10202f", "#c04f00", "#00795a"
DARK = {
    CARD: "#171c22",
    INK: "#e6eaef",
    QUIET: "#a3adb8",
    GRID: "#2d353e",
    BLUE: "#5cb3e6",
    BLACK: "#f4f7fa",
    VERMILION: "#f0904d",
    GREEN: "#4cc9a0",
}
"""What each light colour becomes where the reader prefers a dark scheme."""

FONT = "Arial, Helvetica, Liberation Sans, sans-serif"
SMALLEST_SCALE = 0.7


def name_data(name: str) -> alt.NamedData:
    """Rows that a chart reads by name; `finish_chart` is given them."""
    return alt.NamedData(name=name)


def build_fast() -> AbstractContextManager[None]:
    """Within it Altair does not check each part of a chart against its schema: tests draw all with the checks."""
    return debug_mode(False)


def make_axis(**options: Any) -> alt.Axis:
    """An axis; `options` are Altair's."""
    return alt.Axis(titleFontWeight="normal", titlePadding=10, labelPadding=6, **options)


def make_header(panel_width: float) -> alt.Header:
    """What stands over a panel of a chart in panels."""
    return alt.Header(
        labelFontSize=13, labelFontWeight="bold", labelColor=INK, labelAnchor="start", labelLimit=panel_width
    )


def make_title(text: str, subtitle: str) -> alt.TitleParams:
    """A chart's title, and below it what its marks mean."""
    return alt.TitleParams(
        text, subtitle=subtitle, anchor="start", fontSize=16, subtitleFontSize=13, subtitlePadding=6, offset=14
    )


def mark_logarithmic(first: float, last: float) -> list[float]:
    """Where a logarithmic axis from `first` to `last` has its ticks."""
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    # Under two decades, powers of ten alone would leave the axis bare.
    steps = (1, 2, 5) if last / first < 100 else (1,)
    return [t for t in (step * 10.0**power for power in powers for step in steps) if first <= t <= last]


def finish_chart(chart: Any, datasets: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The Vega-Lite specification of an Altair chart, with the look of all and the rows that its parts name."""
    configured = chart.configure(
        background=CARD,
        font=FONT,
        padding=16,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=QUIET,
            titleColor=QUIET,
            gridColor=GRID,
            domainColor=GRID,
            tickColor=GRID,
            labelFontSize=12,
            titleFontSize=12,
        ),
        title=alt.TitleConfig(color=INK, subtitleColor=QUIET),
    )
    specification: dict[str, Any] = configured.to_dict(validate=False)
    # Put in last: Altair copies what a chart holds at every step.
    return {**specification, "datasets": {**specification.get("datasets", {}), **datasets}}


def embed_chart(specification: dict[str, Any], chart_id: str, title: str, description: str) -> str:
    """The SVG of a chart for a page; `chart_id` keeps ids apart there."""
    return _finish(vl_convert.vegalite_to_svg(specification), chart_id, title, description)


def export_svg(specification: dict[str, Any]) -> str:
    """The SVG of a chart as a file of its own, light."""
    svg: str = vl_convert.vegalite_to_svg(specification)
    return svg


def export_png(specification: dict[str, Any]) -> bytes:
    """The PNG of a chart, light, three pixels to a point: 216 to an inch."""
    png: bytes = vl_convert.vegalite_to_png(specification, scale=3)
    return png


def _round_numbers(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a pixel."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute.group())


def _finish(svg: str, chart_id: str, title: str, description: str) -> str:
    opening = re.match(r"<svg[^>]*>", svg)
    if opening is None:  # vl-convert always opens with its svg element
        raise ValueError(f"not an SVG: {svg[:80]}")
    sizes = dict(re.findall(r'\b(width|height|viewBox)="([^"]*)"', opening.group()))
    dark = "".join(
        f'#{chart_id} [fill="{light}"]{{fill:{shade}}}#{chart_id} [stroke="{light}"]{{stroke:{shade}}}'
        for light, shade in DARK.items()
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{chart_id}" class="chart" role="img" '
        f'aria-labelledby="{chart_id}-title {chart_id}-desc" width="{sizes["width"]}" '
        f'height="{sizes["height"]}" viewBox="{sizes["viewBox"]}" '
        # On a phone it shrinks to what can still be read, and its frame scrolls from there.
        f'style="min-width:{SMALLEST_SCALE * float(sizes["width"]):.0f}px">'
        f'<title id="{chart_id}-title">{html.escape(title)}</title>'
        f'<desc id="{chart_id}-desc">{html.escape(description)}</desc>'
        f"<style>@media screen and (prefers-color-scheme: dark){{{dark}}}</style>"
    )
    body = svg[opening.end() :]
    # The whole is one picture with one description; ids are made unique to the page.
    body = re.sub(r'<path class="(?:foreground|background)"[^>]*?(?:d=""|h0v0h0Z|v0h-\d+Z)[^>]*/>', "", body)
    body = re.sub(r' (?:d|transform|x|y|x1|x2|y1|y2)="[^"]*"', _round_numbers, body)
    body = re.sub(r' aria-label="([^"]*)" role="graphics-symbol"', r' data-tip="\1"', body)
    body = re.sub(r' (?:role|aria-roledescription|aria-label|aria-hidden)="[^"]*"', "", body)
    clips = list(dict.fromkeys(re.findall(r'<clipPath id="(clip\d+)"', body)))  # Vega counts on from chart to chart
    for number, clip in enumerate(clips):
        body = re.sub(rf'(<clipPath id="|url\(#){clip}(?=[")])', rf"\1{chart_id}-clip-{number}", body)
    return head + body
