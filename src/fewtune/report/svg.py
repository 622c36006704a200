"""Renders a chart's specification as SVG, for a page or a file.

Owns what a picture in a page is: it stands on its own card, follows the reader's light or dark scheme, says in a title
and a description what it shows, and keeps each mark's hover text in `data-tip`. Owns the processes that draw many. Does
not know what a chart shows (`charts`); imports little, so that a process that draws is soon there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import vl_convert

from fewtune.report.palette import DARK
from fewtune.system.processes import no_main

PROCESSES = 2
MOST_IN_A_THREAD = 30
"""Charts up to which starting processes takes longer than they save."""
_SPARED = re.compile(
    r' (?:role|aria-roledescription|aria-label|aria-hidden|class|font-family|pointer-events)="[^"]*"| opacity="1"'
)
"""What no mark needs: it is said once of all, or is what holds anyway."""


def open_drawing(charts: int) -> Executor:
    """Open what draws this many charts beside its caller: vl-convert holds Python's lock, so many take processes."""
    if charts <= MOST_IN_A_THREAD:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))


def have_drawn(drawing: Executor, function: Callable[..., str], *asked: Any) -> Future[str]:
    """Ask what `open_drawing` opened for a picture: a process that starts for it imports nothing of the program."""
    with no_main():
        return drawing.submit(function, *asked)


def embed_chart(
    specification: dict[str, Any], chart_id: str, title: str, description: str, classes: str = "chart"
) -> str:
    """The SVG of a chart for a page; `chart_id` keeps ids apart there, `classes` are what the page's style knows."""
    return _finish(vl_convert.vegalite_to_svg(specification), chart_id, title, description, classes)


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


def _finish(svg: str, chart_id: str, title: str, description: str, classes: str) -> str:
    opening = re.match(r"<svg[^>]*>", svg)
    if opening is None:  # vl-convert always opens with its svg element
        raise ValueError(f"not an SVG: {svg[:80]}")
    sizes = dict(re.findall(r'\b(width|height|viewBox)="([^"]*)"', opening.group()))
    dark = "".join(
        f'#{chart_id} [fill="{light}"]{{fill:{shade}}}#{chart_id} [stroke="{light}"]{{stroke:{shade}}}'
        for light, shade in DARK.items()
    )
    font = re.search(r' font-family="[^"]*"', svg)  # one for all: `look`
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{chart_id}" class="{classes}" role="img" '
        f'aria-labelledby="{chart_id}-title {chart_id}-desc" width="{sizes["width"]}" '
        f'height="{sizes["height"]}" viewBox="{sizes["viewBox"]}"{font.group() if font else ""}>'
        f'<title id="{chart_id}-title">{html.escape(title)}</title>'
        f'<desc id="{chart_id}-desc">{html.escape(description)}</desc>'
        f"<style>@media screen and (prefers-color-scheme: dark){{{dark}}}</style>"
    )
    body = svg[opening.end() :]
    # The whole is one picture with one description; ids are made unique to the page.
    body = re.sub(r'<path class="(?:foreground|background)"[^>]*?(?:d=""|h0v0h0Z|v0h-\d+Z)[^>]*/>', "", body)
    body = re.sub(r' (?:d|transform|x|y|x1|x2|y1|y2)="[^"]*"', _round_numbers, body)
    body = re.sub(r' aria-label="([^"]*)" role="graphics-symbol"', r' data-tip="\1"', body)
    body = re.sub(r"<\w[^>]*>", lambda tag: _SPARED.sub("", tag.group()), body)
    clips = list(dict.fromkeys(re.findall(r'<clipPath id="(clip\d+)"', body)))  # Vega counts on from chart to chart
    for number, clip in enumerate(clips):
        body = re.sub(rf'(<clipPath id="|url\(#){clip}(?=[")])', rf"\1{chart_id}-clip-{number}", body)
    return head + body
