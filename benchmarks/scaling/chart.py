"""The curves as one chart: seconds above, peak memory below, a panel a curve, both axes logarithmic.

Owns the marks. Does not know how a point was measured; colours and the finished SVG are fewtune's (`palette`, `svg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from benchmarks.scaling.curves import CURVES, WORKS, Curve
from benchmarks.scaling.table import MEBIBYTE
from fewtune.report.look import finish_chart, make_axis, make_title, mark_logarithmic
from fewtune.report.palette import BLUE, GREEN, INK, VERMILION
from fewtune.report.svg import embed_chart

COLOURS, SHAPES = (BLUE, VERMILION, GREEN, INK), ("circle", "square", "triangle-up", "diamond")
PANELS = 3
"""Curves beside each other."""
PANEL_WIDTH, PANEL_HEIGHT, LABEL_WIDTH = 220, 190, 46
ROWS = (("seconds", "seconds", 1), ("peak_memory_bytes", "peak memory, MiB", MEBIBYTE))


def draw_scaling(results: dict[str, Any]) -> str:
    """The SVG of all that was measured."""
    points = results["points"]
    rows = [row for row in ROWS if any(p[row[0]] for p in points)]  # memory cannot be measured everywhere
    names = [name for name in CURVES if any(p["curve"] == name for p in points)]
    groups = [names[start : start + PANELS] for start in range(0, len(names), PANELS)]
    parts = [draw_row([p for p in points if p["curve"] in group], *row) for group in groups for row in rows]
    chart = alt.vconcat(*parts, spacing=22).properties(
        title=make_title("Time and memory against the size of the work", "all axes logarithmic")
    )
    description = " ".join(describe_curve(points, name, curve) for name, curve in CURVES.items()).strip()
    title = "Time and memory against the size of the work, curve by curve"
    return embed_chart(finish_chart(chart, {}), "scaling", title, description)


def draw_row(points: Sequence[dict[str, Any]], field: str, title: str, unit: int) -> Any:
    """One measurement, a panel a curve, over the same span."""
    known = [p for p in points if p[field]]
    curves = [name for name in CURVES if any(p["curve"] == name for p in known)]
    span = min(p[field] for p in known) / unit / 1.3, max(p[field] for p in known) / unit * 1.3
    return alt.hconcat(
        *(
            draw_panel(
                [
                    {"value": p["value"], "measured": p[field] / unit, "work": WORKS[p["work"]]}
                    for p in known
                    if p["curve"] == name
                ],
                CURVES[name],
                title if name == curves[0] else None,
                span,
            )
            for name in curves
        ),
        spacing=20,
    )


def draw_panel(values: list[dict[str, Any]], curve: Curve, title: str | None, span: tuple[float, float]) -> Any:
    """One measurement over one curve's values, a line a work."""
    works = list(WORKS.values())
    x = alt.X(
        "value:Q",
        title=curve.unit,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=make_axis(values=list(curve.values), format="d", grid=False),
    )
    y = alt.Y(
        "measured:Q",
        title=title,
        scale=alt.Scale(type="log", domain=list(span), nice=False),
        # Panels of a column stand above one another however long their labels are.
        axis=make_axis(values=mark_logarithmic(*span), format="~g", minExtent=LABEL_WIDTH, maxExtent=LABEL_WIDTH),
    )
    colour = alt.Color(
        "work:N",
        scale=alt.Scale(domain=works, range=list(COLOURS)),
        legend=alt.Legend(
            title=None, orient="bottom", direction="horizontal", labelColor=INK, labelFontSize=13, symbolSize=90
        ),
    )
    shape = alt.Shape("work:N", scale=alt.Scale(domain=works, range=list(SHAPES)))
    base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y, color=colour)  # type: ignore[no-untyped-call]
    return alt.layer(
        base.mark_line(strokeWidth=1.5), base.mark_point(filled=True, size=60, opacity=1).encode(shape=shape)
    ).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT)


def describe_curve(points: Sequence[dict[str, Any]], name: str, curve: Curve) -> str:
    """What a reader who does not see the chart should know of it: each line's two ends."""
    parts = []
    for work in curve.works:
        ends = sorted((p["value"], p["seconds"]) for p in points if (p["curve"], p["work"]) == (name, work))
        if ends:
            (first, fast), (last, slow) = ends[0], ends[-1]
            parts.append(f"{WORKS[work]} from {fast:.3g} s at {first} to {slow:.3g} s at {last}")
    return f"Over {curve.unit}: {', '.join(parts)}." if parts else ""
