"""The chart of learning curves: scores by the number of labelled rows, in and out of domain.

Owns its marks and their hover texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import altair as alt

from fewtune.analysis.curves import Curve
from fewtune.analysis.leaderboard import IN_DOMAIN, name_test_set
from fewtune.report.chart import (
    DRAW,
    ELSEWHERE,
    Chart,
    format_intervals,
    list_cuts,
    name_file,
    show_interval,
    span_values,
)
from fewtune.report.look import (
    NARROW,
    WIDE,
    Room,
    finish_chart,
    make_axis,
    make_header,
    make_marks,
    make_scale,
    make_title,
    name_data,
)
from fewtune.report.names import wrap_header
from fewtune.report.wording import format_score

CURVE_WIDTH, CURVE_HEIGHT, CURVES_A_ROW = 196, 130, 3
NARROW_WIDTH, NARROW_A_ROW = 120, 2


def draw_curves(curves: Sequence[Curve], room: Room = WIDE) -> Chart:
    """Draw one task's and model's learning curves, a panel a method: in domain with its interval, elsewhere beside it.

    `curves` are those of one task and model, in and out of domain.
    """
    first = curves[0]
    inside = [curve for curve in curves if curve.test_set == IN_DOMAIN]
    width, columns = (NARROW_WIDTH, NARROW_A_ROW) if room is NARROW else (CURVE_WIDTH, CURVES_A_ROW)
    best_first = sorted(inside, key=lambda curve: -curve.points[-1].bounds.mean)
    panels = {curve.variant: wrap_header(curve.variant, width) for curve in best_first}
    others = sorted({curve.test_set for curve in curves} - {IN_DOMAIN})
    shots = sorted({point.shots for curve in curves for point in curve.points})
    points = _list_points(inside, panels)
    elsewhere = _average_outside(curves, panels, others)
    span = span_values(
        [point["mean"] for point in (*points, *elsewhere)], [point[end] for point in points for end in ("low", "high")]
    )
    cuts = _list_cuts(points, span)
    marks = "blue: in domain, with its 95 % interval"
    if others:
        marks += f" · dashed: mean of {', '.join(map(name_test_set, others))}"
    marks += format_intervals("band", bool(cuts), any(point["low"] is None for point in points))
    where = " · ".join([first.task, first.model or "no language model"])
    chart = (
        alt.layer(*_layer_curves(first.metric, shots, span), data=name_data("rows"))
        .properties(width=width, height=CURVE_HEIGHT)
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels.values()), title=None, header=make_header()),
            columns=columns,
            spacing=22,
        )
        .properties(title=make_title(f"Learning curves · {where}", marks, room))
    )
    description = f"{where}, {first.metric}. " + " ".join(
        f"{curve.variant}: "
        + ", ".join(f"{format_score(point.bounds.mean)} at {point.shots}" for point in curve.points)
        + "."
        for curve in inside
    )
    name = name_file(first.task, first.model, "learning-curves")
    specification = finish_chart(chart, {"rows": [*points, *elsewhere, *cuts]}, room)
    return Chart("learning curves", name, f"Learning curves · {where}", description, specification)


def _layer_curves(metric: str, shots: Sequence[int], span: tuple[float, float]) -> list[alt.Chart]:
    """The layers of one panel, the lowest first, over the chart's named data."""
    x = alt.X(
        "shots:Q",
        title="labelled rows",
        scale=make_scale(type="log", base=2, domain=[shots[0] / 1.15, shots[-1] * 1.15], nice=False),
        axis=make_axis(values=shots, format="d"),
    )

    def y(field: str) -> alt.Y:
        scale = make_scale(domain=span, nice=False, zero=False)
        return alt.Y(field, title=metric, scale=scale, axis=make_axis(tickCount=4))

    tip = alt.Description("tip:N")
    inside, outside = "datum.where === 'in domain'", "datum.where === 'elsewhere'"
    arrowheads = [
        make_marks("point", shape=shape, filled=True, color=DRAW, size=45, opacity=1, yOffset=inwards)
        .transform_filter(f"datum.where === 'cut' && datum.side === '{side}'")
        .encode(x=x, y=y("edge:Q"), description=tip)
        for side, shape, inwards in (("low", "triangle-down", -3), ("high", "triangle-up", 3))
    ]
    # Bands and lines have no hover text: as one mark each they would tell of their first point alone.
    return [
        make_marks("area", color=DRAW, opacity=0.15, clip=True, aria=False)
        .transform_filter(f"{inside} && datum.low !== null")
        .encode(x=x, y=y("low:Q"), y2=alt.Y2("high:Q")),
        *arrowheads,
        make_marks("line", color=ELSEWHERE, strokeWidth=2, strokeDash=[5, 3], aria=False)
        .transform_filter(outside)
        .encode(x=x, y=y("mean:Q")),
        make_marks("square", color=ELSEWHERE, size=40, opacity=1)
        .transform_filter(outside)
        .encode(x=x, y=y("mean:Q"), description=tip),
        make_marks("line", color=DRAW, strokeWidth=2, aria=False).transform_filter(inside).encode(x=x, y=y("mean:Q")),
        make_marks("circle", color=DRAW, size=55, opacity=1)
        .transform_filter(inside)
        .encode(x=x, y=y("mean:Q"), description=tip),
    ]


def _list_points(inside: Sequence[Curve], panels: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row of the chart's data for each point in domain."""
    return [
        {
            "panel": panels[curve.variant],
            "method": curve.variant,
            "shots": point.shots,
            "mean": point.bounds.mean,
            "low": shown.low,
            "high": shown.high,
            "where": "in domain",
            "tip": f"{curve.variant}, in domain, {point.shots} shots: {format_score(point.bounds.mean)}{shown.words}",
        }
        for curve in inside
        for point in curve.points
        for shown in [show_interval(point.bounds, point.draws)]
    ]


def _list_cuts(points: Sequence[Mapping[str, Any]], span: tuple[float, float]) -> list[dict[str, Any]]:
    named = [
        {**point, "where": "cut", "name": f"{point['method']}, in domain, {point['shots']} shots"} for point in points
    ]
    return list_cuts(named, span, ("panel", "shots", "where"), "name")


def _average_outside(curves: Sequence[Curve], panels: Mapping[str, str], others: Sequence[str]) -> list[dict[str, Any]]:
    """The mean over test sets out of domain, by method and shots, where all of them were scored."""
    found: dict[tuple[str, int], list[float]] = {}
    for curve in curves:
        if curve.test_set != IN_DOMAIN:
            for point in curve.points:
                found.setdefault((curve.variant, point.shots), []).append(point.bounds.mean)
    return [
        {
            "panel": panels[variant],
            "method": variant,
            "shots": shots,
            "mean": fmean(means),
            "where": "elsewhere",
            "tip": f"{variant}, out of domain, {shots} shots: {format_score(fmean(means))}",
        }
        for (variant, shots), means in found.items()
        if variant in panels and len(means) == len(others)
    ]
