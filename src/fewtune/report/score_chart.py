"""The chart of a group's scores: every draw, each method's mean with its interval, and the majority class.

Owns its marks and their hover texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from fewtune.analysis.leaderboard import LeaderboardRow, TestSetScore, name_test_set
from fewtune.analysis.study import GroupAnalysis
from fewtune.plurals import pluralise
from fewtune.report.chart import (
    BASELINE,
    DRAW,
    MEAN,
    Chart,
    finish_group_chart,
    format_intervals,
    head_panel,
    list_cuts,
    show_interval,
    span_values,
)
from fewtune.report.look import (
    NARROW,
    WIDE,
    Room,
    make_axis,
    make_header,
    make_marks,
    make_scale,
    make_title,
    name_data,
)
from fewtune.report.names import NameColumn, set_names, wrap_header
from fewtune.report.palette import QUIET
from fewtune.report.wording import MAJORITY, format_score

SCORES = "scores"
PANELS_WIDTH, WIDEST_PANEL, ROW_HEIGHT, MOST_PANELS = 680, 314, 30, 3
MOST_DOTS = 60
"""Draws up to which each has a dot of its own: thousands of dots take gigabytes to draw."""
_Marks = dict[str, list[dict[str, Any]]]
"""Rows of the chart's data by their kind."""


def draw_scores(group: GroupAnalysis, room: Room = WIDE) -> Chart:
    """Draw each method's scores a test set: a dot a draw, a bar at the mean, its interval; and the majority class."""
    board = group.board
    rows = [row for row in board.rows if row.in_domain is not None]
    names = set_names([row.variant for row in rows], room)
    # One or two panels are not stretched over the whole width: dots far from their names are hard to follow.
    columns = 1 if room is NARROW else 2 if len(board.test_sets) == 4 else min(len(board.test_sets), MOST_PANELS)
    width = room.width - names.width if room is NARROW else min(WIDEST_PANEL, PANELS_WIDTH // columns - 16)
    panels = {name: wrap_header(head_panel(board, name), width) for name in board.test_sets}
    marks = _list_marks(group, rows, panels)
    span = _span_marks(marks)
    marks["cuts"] = list_cuts(marks["means"], span, ("panel", "method"), "where")
    first = [panel for place, panel in enumerate(panels.values()) if place % columns == 0]
    listed = [row for panel in first for row in names.list_rows(panel=panel)]
    lines = format_intervals("line", bool(marks["cuts"]), any(mean["low"] is None for mean in marks["means"]))
    chart = (
        alt.layer(*_layer_scores(names, board.metric, span), data=name_data("rows"))
        .properties(width=width, height=names.measure_row(ROW_HEIGHT) * len(rows))
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels.values()), title=None, header=make_header()),
            columns=columns,
            spacing=26,
        )
        .properties(
            title=make_title(
                "Every draw, in and out of domain",
                f"dot: {_format_dot(rows)} · bar: mean of draws · grey line: its 95 % interval · dashed: "
                f"{MAJORITY}{lines}",
                room,
            )
        )
    )
    description = f"{board.title}, {board.metric}. " + " ".join(
        f"{row.variant}: "
        + ", ".join(f"{name_test_set(n)} {format_score(row.scores[n].mean)}" for n in board.test_sets)
        + "."
        for row in rows
    )
    listed += [{"kind": kind, **mark} for kind, found in marks.items() for mark in found]
    return finish_group_chart(
        chart, {"rows": listed}, board, SCORES, "Every draw, in and out of domain", description, room
    )


def _list_marks(group: GroupAnalysis, rows: Sequence[LeaderboardRow], panels: Mapping[str, str]) -> _Marks:
    """The rows of the chart's data by kind: dots of draws, means with their intervals, majorities."""
    board = group.board
    dots: list[dict[str, Any]] = [
        {"panel": panels[name], "method": row.variant, "value": value, "tip": f"{row.variant}, {tip}"}
        for row in rows
        for name in board.test_sets
        for value, tip in _list_dots(row.scores[name])
    ]
    means: list[dict[str, Any]] = [
        {
            "panel": panels[name],
            "method": row.variant,
            "mean": bounds.mean,
            "low": shown.low,
            "high": shown.high,
            "where": f"{row.variant}, {name_test_set(name)}",
            "tip": f"{row.variant}, {name_test_set(name)}, mean: {format_score(bounds.mean)}{shown.words}",
        }
        for row in rows
        for name, bounds in group.stability[row.variant].bounds.items()
        for shown in [show_interval(bounds, len(row.scores[name].draws))]
    ]
    majorities: list[dict[str, Any]] = [
        {"panel": panels[name], "majority": value, "tip": f"{MAJORITY}, {name_test_set(name)}: {format_score(value)}"}
        for name, value in board.majority.items()
        if value is not None
    ]
    return {"dots": dots, "means": means, "majorities": majorities}


def _span_marks(marks: _Marks) -> tuple[float, float]:
    values = [dot["value"] for dot in marks["dots"]] + [rule["majority"] for rule in marks["majorities"]]
    return span_values(values, [end for mean in marks["means"] for end in (mean["low"], mean["high"])])


def _layer_scores(names: NameColumn, metric: str, span: tuple[float, float]) -> list[alt.Chart]:
    """The layers of one panel, the lowest first, over the chart's named data."""
    scale = make_scale(domain=span, nice=False, zero=False)
    y = alt.Y(
        "method:N",
        sort=list(names.lines),
        title=None,
        axis=make_axis(grid=True, ticks=False, domain=False, labels=False),
    )

    def x(field: str) -> alt.X:
        return alt.X(field, title=metric, scale=scale, axis=make_axis(tickCount=5))

    tip = alt.Description("tip:N")
    arrowheads = [
        make_marks("point", shape=shape, filled=True, color=QUIET, size=55, opacity=1, xOffset=inwards)
        .transform_filter(f"datum.kind === 'cuts' && datum.side === '{side}'")
        .encode(x=x("edge:Q"), y=y, description=tip)
        for side, shape, inwards in (("low", "triangle-left", 3), ("high", "triangle-right", -3))
    ]
    return [
        names.layer(y),
        make_marks("rule", color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3])
        .transform_filter("datum.kind === 'majorities'")
        .encode(x=x("majority:Q"), description=tip),
        make_marks("rule", color=QUIET, strokeWidth=2, clip=True)
        .transform_filter("datum.kind === 'means' && datum.low !== null")
        .encode(x=x("low:Q"), x2=alt.X2("high:Q"), y=y, description=tip),
        *arrowheads,
        make_marks("circle", color=DRAW, size=70, opacity=0.65)
        .transform_filter("datum.kind === 'dots'")
        .encode(x=x("value:Q"), y=y, description=tip),
        make_marks("tick", color=MEAN, thickness=3, size=20)
        .transform_filter("datum.kind === 'means'")
        .encode(x=x("mean:Q"), y=y, description=tip),
    ]


def _list_dots(score: TestSetScore) -> list[tuple[float, str]]:
    """Where a method's dots stand and what they say: one a draw, of many draws one for all of a hundredth."""
    where = name_test_set(score.test_set)
    if len(score.draws) <= MOST_DOTS:
        return [
            (draw.value, f"{where}, data seed {draw.data_seed}: {format_score(draw.value)}") for draw in score.draws
        ]
    counts = Counter(round(draw.value, 2) for draw in score.draws)
    return [(value, f"{where}, about {value:z.2f}: {pluralise(n, 'draw')}") for value, n in sorted(counts.items())]


def _format_dot(rows: Sequence[LeaderboardRow]) -> str:
    many = any(len(score.draws) > MOST_DOTS for row in rows for score in row.scores.values())
    return "draws of one hundredth" if many else "one draw"
