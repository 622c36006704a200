"""The chart of a decision: each method's score, expected loss, bound and cost, with the choice marked.

Owns marks and their hover texts. Does not know how a bound came about (`analysis`) or how charts look (`look`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import altair as alt

from fewtune.analysis.decision import Contender, Decision
from fewtune.analysis.stability import Bounds
from fewtune.report.chart import list_cuts, show_interval
from fewtune.report.look import (
    NARROW,
    WIDE,
    Room,
    finish_chart,
    make_axis,
    make_marks,
    make_scale,
    make_title,
    name_data,
)
from fewtune.report.names import set_names
from fewtune.report.palette import BLUE, GREEN, INK, QUIET, VERMILION
from fewtune.report.wording import (
    format_bound,
    format_decision,
    format_expected,
    format_question,
    format_score,
    format_seconds,
    mark_unlabelled,
)

PANEL_WIDTH, COST_WIDTH, ROW_HEIGHT = 150, 62, 26
NARROW_PANEL_WIDTH, NARROW_COST_WIDTH = 65, 44
TITLE_COLUMNS, FONT_SIZE = 62, 14
TICKS, NARROW_TICKS = (0, 1, 3, 10, 30, 100), (0, 10, 30, 100)
"""Points at which the axis of regret bounds has its ticks: it goes by square roots, for small ones are what counts."""


def list_scored(decision: Decision) -> list[Contender]:
    """The methods that have a score, as they are drawn: those compared first, the highest mean first."""
    return [each for each in decision.contenders if each.score is not None]


def specify_answer(
    decision: Decision, bounds: Mapping[str, Bounds], room: Room = WIDE, *, titled: bool = True
) -> dict[str, Any]:
    """The chart's specification; `bounds` are score intervals by method. Untitled where the sentence stands above."""
    rows = [_describe(decision, each, bounds.get(each.name)) for each in list_scored(decision)]
    names = set_names([row["method"] for row in rows], room)
    narrow = room is NARROW
    width, cost_width = (NARROW_PANEL_WIDTH, NARROW_COST_WIDTH) if narrow else (PANEL_WIDTH, COST_WIDTH)
    bare = alt.Y("method:N", sort=[row["method"] for row in rows], title=None, axis=None)
    size = {"height": names.measure_row(ROW_HEIGHT) * len(rows)}
    span = _span_scores(rows)
    panels = alt.hconcat(
        alt.layer(
            names.layer(bare, name_data("names")), *_layer_scores(decision, span, bare, 2 if narrow else 3)
        ).properties(width=width, **size),
        _draw_regrets(decision, rows, bare, narrow).properties(width=width, **size),
        _draw_costs(bare, narrow).properties(width=cost_width, **size),
        spacing=8 if narrow else 12,
        data=name_data("rows"),
    )
    if titled:
        sentence = textwrap.wrap(f"{format_question(decision)}: {format_decision(decision)}", TITLE_COLUMNS)
        panels = panels.properties(title=make_title("", "") | {"text": sentence, "subtitle": ""})
    points = 100 * decision.question.within
    tolerance = {"points": points, "tip": f"the tolerance: {points:g} points below the best"}
    cuts = list_cuts(rows, span, ("method", "color"), "name")
    datasets = {"rows": rows, "names": names.list_rows(), "cuts": cuts, "tolerance": [tolerance]}
    return finish_chart(panels, datasets, room)


def describe_answer(decision: Decision) -> str:
    """What the chart shows, in words."""
    each = [
        f"{c.name}: {format_score(c.score)} {decision.question.metric}, expected to lose {format_expected(c)} points "
        f"to the best, {format_bound(c)} at most, {format_seconds(c.seconds)}."
        for c in list_scored(decision)
    ]
    return " ".join([format_decision(decision), *each])


def _describe(decision: Decision, contender: Contender, bounds: Bounds | None) -> dict[str, Any]:
    chosen = decision.choice is not None and decision.choice.name == contender.name
    regret = None if contender.regret is None else contender.regret.bound
    name = mark_unlabelled(contender.name, contender.unlabelled)
    shown = None if bounds is None else show_interval(bounds, decision.draws)
    return {
        "name": contender.name,
        "method": f"✓ {name}" if chosen else name,
        "score": contender.score,
        "low": None if shown is None else shown.low,
        "high": None if shown is None else shown.high,
        "loss": None if contender.loss is None else 100 * contender.loss.expected,
        "points": None if regret is None else 100 * regret,
        "zero": 0,
        "cost": format_seconds(contender.seconds),
        "color": GREEN if chosen else BLUE,
        "tip": f"{contender.name}: {format_score(contender.score)} {decision.question.metric}, expected to lose "
        f"{format_expected(contender)} points to the best, {format_bound(contender)} at most, "
        f"{format_seconds(contender.seconds)} to fit and answer",
    }


def _span_scores(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """From where to where the axis of scores goes: intervals of few draws reach beyond any score, and are cut."""
    values = [row["score"] for row in rows]
    margin = 0.06 * max(0.1, max(values) - min(values)) if values else 0.0
    ends = [row[end] for row in rows for end in ("low", "high") if row[end] is not None]
    low = max(min(values) - 6 * margin, min([*ends, *values])) if values else 0.0
    high = min(max(values) + 6 * margin, max([*ends, *values])) if values else 1.0
    return low - margin, high + margin


def _layer_scores(decision: Decision, span: tuple[float, float], y: alt.Y, ticks: int) -> list[Any]:
    scale = make_scale(domain=span, nice=False, zero=False)

    def x(field: str) -> alt.X:
        return alt.X(field, title=decision.question.metric, scale=scale, axis=_axis(tickCount=ticks))

    tip = alt.Description("tip:N")
    color = alt.Color("color:N", scale=None)
    arrowheads = [
        make_marks("point", name_data("cuts"), shape=shape, filled=True, size=60, opacity=1, xOffset=inwards)
        .transform_filter(f"datum.side === '{side}'")
        .encode(x=x("edge:Q"), y=y, color=color, description=tip)
        for side, shape, inwards in (("low", "triangle-left", 3), ("high", "triangle-right", -3))
    ]
    return [
        make_marks("rule", strokeWidth=3, opacity=0.45, clip=True).encode(
            x=x("low:Q"), x2=alt.X2("high:Q"), y=y, color=color, description=tip
        ),
        *arrowheads,
        make_marks("circle", size=110, opacity=1).encode(x=x("score:Q"), y=y, color=color, description=tip),
    ]


def _draw_regrets(decision: Decision, rows: list[dict[str, Any]], y: alt.Y, narrow: bool) -> Any:
    points = [row[end] for row in rows for end in ("loss", "points") if row[end] is not None]
    most = max([100 * decision.question.within * 2, *points])
    title = ["points", "lost to", "the best"] if narrow else "points lost to the best"
    values = [tick for tick in (NARROW_TICKS if narrow else TICKS) if tick <= most]
    scale = make_scale(type="sqrt", domain=[0, most * 1.05], nice=False)
    x, zero, loss = (
        alt.X(f"{field}:Q", title=title, scale=scale, axis=_axis(values=values)) for field in ("points", "zero", "loss")
    )
    tip = alt.Description("tip:N")
    color = alt.Color("color:N", scale=None)
    rule = make_marks("rule", name_data("tolerance"), color=VERMILION, strokeWidth=1.5, strokeDash=[5, 3])
    return alt.layer(
        make_marks("rule", strokeWidth=1.5, opacity=0.6).encode(
            x=loss, x2=alt.X2("points:Q"), y=y, color=color, description=tip
        ),
        make_marks("tick", thickness=1.5, size=9, opacity=0.6).encode(x=x, y=y, color=color, description=tip),
        make_marks("rule", strokeWidth=9, opacity=0.35).encode(
            x=zero, x2=alt.X2("loss:Q"), y=y, color=color, description=tip
        ),
        make_marks("circle", size=110, opacity=1).encode(x=loss, y=y, color=color, description=tip),
        rule.encode(x=x, description=tip),
    )


def _draw_costs(y: alt.Y, narrow: bool) -> Any:
    text = make_marks("text", align="right", fontSize=FONT_SIZE, color=INK)
    axis = _axis(values=[], grid=False)
    title = ["fit,", "1,000", "rows"] if narrow else "fit, 1,000 rows"
    where = alt.X("zero:Q", title=title, scale=make_scale(domain=[-1, 0]), axis=axis)
    return text.encode(x=where, y=y, text=alt.Text("cost:N"), description=alt.Description("tip:N"))


def _axis(**options: Any) -> dict[str, Any]:
    return make_axis(domain=False, ticks=False, titleColor=QUIET, labelFontSize=FONT_SIZE - 1, **options)
