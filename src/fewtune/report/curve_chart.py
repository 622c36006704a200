"""The chart of learning curves: scores by the number of labelled rows, in and out of domain.

Owns its marks and their hover texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import altair as alt

from fewtune.analysis.curves import Curve
from fewtune.analysis.leaderboard import IN_DOMAIN, name_test_set
from fewtune.report.chart import DRAW, ELSEWHERE, Chart, name_file, span_values
from fewtune.report.look import (
    finish_chart,
    make_axis,
    make_header,
    make_scale,
    make_title,
    name_data,
)
from fewtune.report.wording import word_score

CURVE_WIDTH, CURVE_HEIGHT, CURVES_A_ROW = 196, 130, 3


def draw_curves(curves: Sequence[Curve]) -> Chart:
    """Draw one task's and model's learning curves, a panel a method: in domain with its interval, elsewhere beside it.

    `curves` are those of one task and model, in and out of domain.
    """
    inside = [curve for curve in curves if curve.test_set == IN_DOMAIN]
    order = [c.variant for c in sorted(inside, key=lambda curve: -curve.points[-1].bounds.mean)]
    others = sorted({curve.test_set for curve in curves} - {IN_DOMAIN})
    shots = sorted({point.shots for curve in curves for point in curve.points})
    lines: list[dict[str, Any]] = [
        {
            "method": curve.variant,
            "shots": point.shots,
            "mean": point.bounds.mean,
            "low": point.bounds.low,
            "high": point.bounds.high,
            "where": "in domain",
            "tip": f"{curve.variant}, in domain, {point.shots} shots: {word_score(point.bounds.mean)}",
        }
        for curve in inside
        for point in curve.points
    ]
    lines += _average_outside(curves, order, others)
    low, high = span_values(
        [line["mean"] for line in lines], [line.get(end) for line in lines for end in ("low", "high")]
    )
    x = alt.X(
        "shots:Q",
        title="labelled rows",
        scale=make_scale(type="log", base=2, domain=[shots[0] / 1.15, shots[-1] * 1.15], nice=False),
        axis=make_axis(values=shots, format="d"),
    )

    def y(field: str) -> alt.Y:
        scale = make_scale(domain=[low, high], nice=False, zero=False)
        return alt.Y(field, title=curves[0].metric, scale=scale, axis=make_axis(tickCount=4))

    base = alt.Chart()

    def only(where: str) -> Any:
        return base.transform_filter(f"datum.where === '{where}'")

    tip = alt.Description("tip:N")
    # Bands and lines have no hover text: as one mark each they would tell of their first point alone.
    layers = [
        only("in domain")
        .mark_area(color=DRAW, opacity=0.15, clip=True, aria=False)
        .encode(x=x, y=y("low:Q"), y2="high:Q"),
        only("elsewhere")
        .mark_line(color=ELSEWHERE, strokeWidth=2, strokeDash=[5, 3], aria=False)
        .encode(x=x, y=y("mean:Q")),
        only("elsewhere").mark_square(color=ELSEWHERE, size=40, opacity=1).encode(x=x, y=y("mean:Q"), description=tip),
        only("in domain").mark_line(color=DRAW, strokeWidth=2, aria=False).encode(x=x, y=y("mean:Q")),
        only("in domain").mark_circle(color=DRAW, size=55, opacity=1).encode(x=x, y=y("mean:Q"), description=tip),
    ]
    marks = "blue: in domain, with its 95 % interval"
    if others:
        marks += f" · dashed: mean of {', '.join(map(name_test_set, others))}"
    first = curves[0]
    where = " · ".join([first.task, first.model or "no language model"])
    chart = (
        alt.layer(*layers, data=name_data("rows"))
        .properties(width=CURVE_WIDTH, height=CURVE_HEIGHT)
        .facet(
            facet=alt.Facet("method:N", sort=order, title=None, header=make_header(CURVE_WIDTH)),
            columns=CURVES_A_ROW,
            spacing=22,
        )
        .properties(title=make_title(f"Learning curves · {where}", marks))
    )
    description = f"{where}, {first.metric}. " + " ".join(
        f"{curve.variant}: "
        + ", ".join(f"{word_score(point.bounds.mean)} at {point.shots}" for point in curve.points)
        + "."
        for curve in inside
    )
    name = name_file(first.task, first.model, "learning-curves")
    return Chart(
        "learning curves", name, f"Learning curves · {where}", description, finish_chart(chart, {"rows": lines})
    )


def _average_outside(curves: Sequence[Curve], order: Sequence[str], others: Sequence[str]) -> list[dict[str, Any]]:
    """The mean over test sets out of domain, by method and shots, where all of them were scored."""
    found: dict[tuple[str, int], list[float]] = {}
    for curve in curves:
        if curve.test_set != IN_DOMAIN:
            for point in curve.points:
                found.setdefault((curve.variant, point.shots), []).append(point.bounds.mean)
    return [
        {
            "method": variant,
            "shots": shots,
            "mean": fmean(means),
            "where": "elsewhere",
            "tip": f"{variant}, out of domain, {shots} shots: {word_score(fmean(means))}",
        }
        for (variant, shots), means in found.items()
        if variant in order and len(means) == len(others)
    ]
