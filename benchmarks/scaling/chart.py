"""The curves as one chart: seconds above, peak memory below, a panel a curve, both axes logarithmic.

Owns the marks. Does not know how a point was measured; colours and the finished SVG are fewtune's own (`look`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from benchmarks.scaling.curves import CURVES, WORKS, Curve
from benchmarks.scaling.table import MEBIBYTE
from fewtune.report.look import BLUE, GREEN, INK, VERMILION, hold_values, make_axis, make_title, render_chart

COLOURS, SHAPES = (BLUE, VERMILION, GREEN, INK), ("circle", "square", "triangle-up", "diamond")
PANEL_WIDTH, PANEL_HEIGHT = 220, 190
ROWS = (("seconds", "seconds", 1), ("peak_memory_bytes", "peak memory, MiB", MEBIBYTE))


def draw_scaling(results: dict[str, Any]) -> str:
    """The SVG of all that was measured."""
    points = results["points"]
    panels = [
        [draw_panel(points, name, field, title, unit) for name in CURVES if any(p["curve"] == name for p in points)]
        for field, title, unit in ROWS
    ]
    chart = alt.vconcat(*(alt.hconcat(*row, spacing=28) for row in panels), spacing=22).properties(
        title=make_title("Time and memory against the size of the work", "logarithmic axes · SmolLM2-135M")
    )
    legend = alt.LegendConfig(labelColor=INK, labelFontSize=13, symbolSize=90)
    description = " ".join(describe_curve(points, name, curve) for name, curve in CURVES.items()).strip()
    title = "Time and memory against labelled rows, tokens a row and blocks"
    return render_chart(chart.configure_legend(**legend.to_dict()), "scaling", title, description)


def draw_panel(points: Sequence[dict[str, Any]], curve: str, field: str, title: str, unit: int) -> alt.LayerChart:
    """One measurement over one curve's values, a line a work."""
    values = [
        {"value": p["value"], "measured": p[field] / unit, "work": WORKS[p["work"]]}
        for p in points
        if p["curve"] == curve and p[field]
    ]
    works = list(WORKS.values())
    x = alt.X(
        "value:Q",
        title=CURVES[curve].unit,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=make_axis(values=list(CURVES[curve].values), format="d", grid=False),
    )
    y = alt.Y(
        "measured:Q",
        title=title if curve == next(iter(CURVES)) else None,
        scale=alt.Scale(type="log", padding=8),
        axis=make_axis(format="~g", tickCount=5),
    )
    colour = alt.Color(
        "work:N",
        scale=alt.Scale(domain=works, range=list(COLOURS)),
        legend=alt.Legend(title=None, orient="bottom", direction="horizontal"),
    )
    shape = alt.Shape("work:N", scale=alt.Scale(domain=works, range=list(SHAPES)))
    base = alt.Chart(hold_values(values)).encode(x=x, y=y, color=colour)
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
