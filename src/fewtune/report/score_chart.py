"""The chart of a group's scores: every draw, each method's mean with its interval, and the majority.

Owns its marks and their hover texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from fewtune.analysis.leaderboard import LeaderboardRow, TestSetScore, name_test_set
from fewtune.analysis.study import GroupAnalysis
from fewtune.plurals import word_number
from fewtune.report.chart import BASELINE, DRAW, MEAN, Chart, finish_group_chart, head_panel, span_values
from fewtune.report.look import (
    make_axis,
    make_header,
    make_scale,
    make_title,
    name_data,
)
from fewtune.report.palette import INK, QUIET
from fewtune.report.wording import word_score

SCORES = "scores"
SCORES_WIDTH, ROW_HEIGHT, MOST_PANELS = 680, 30, 3
MOST_DOTS = 60
"""Draws up to which each has a dot of its own: thousands of dots take gigabytes to draw."""


def draw_scores(group: GroupAnalysis) -> Chart:
    """Draw each method's scores a test set: a dot a draw, a bar at the mean, its interval, and the majority's rule."""
    board = group.board
    rows = [row for row in board.rows if row.in_domain is not None]
    panels = {name: head_panel(board, name) for name in board.test_sets}
    kinds = _list_marks(group, rows, panels)
    # One or two panels are not stretched over the whole width: dots far from their names are hard to follow.
    columns = 2 if len(panels) == 4 else min(len(panels), MOST_PANELS)
    panel_width = min(330, SCORES_WIDTH // columns - 16)
    layers = _layer_scores(kinds, board.metric, [row.variant for row in rows])
    chart = (
        alt.layer(*layers, data=name_data("rows"))
        .properties(width=panel_width, height=ROW_HEIGHT * len(rows))
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels.values()), title=None, header=make_header(panel_width)),
            columns=columns,
            spacing=26,
        )
        .properties(
            title=make_title(
                "Every draw, in and out of domain",
                f"dot: {_word_dot(rows)} · bar: mean of draws · grey line: its 95 % interval · dashed: majority",
            )
        )
    )
    description = f"{board.title}, {board.metric}. " + " ".join(
        f"{row.variant}: "
        + ", ".join(f"{name_test_set(n)} {word_score(row.scores[n].mean)}" for n in board.test_sets)
        + "."
        for row in rows
    )
    marks = [{"kind": kind, **mark} for kind, found in kinds.items() for mark in found]
    return finish_group_chart(chart, {"rows": marks}, board, SCORES, "Every draw, in and out of domain", description)


def _list_marks(
    group: GroupAnalysis, rows: Sequence[LeaderboardRow], panels: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
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
            "low": bounds.low,
            "high": bounds.high,
            "tip": f"{row.variant}, {name_test_set(name)}, mean: {word_score(bounds.mean)}"
            + (f" [{bounds.low:.3f}, {bounds.high:.3f}]" if bounds.low is not None and bounds.high is not None else ""),
        }
        for row in rows
        for name, bounds in group.stability[row.variant].bounds.items()
    ]
    majorities: list[dict[str, Any]] = [
        {"panel": panels[name], "majority": value, "tip": f"majority, {name_test_set(name)}: {word_score(value)}"}
        for name, value in board.majority.items()
        if value is not None
    ]
    return {"dots": dots, "means": means, "majorities": majorities}


def _layer_scores(
    kinds: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, order: Sequence[str]
) -> list[alt.Chart]:
    """The layers of one panel, the lowest first, over the chart's named data."""
    values = [dot["value"] for dot in kinds["dots"]] + [rule["majority"] for rule in kinds["majorities"]]
    low, high = span_values(values, [end for mean in kinds["means"] for end in (mean["low"], mean["high"])])
    scale = make_scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y(
        "method:N",
        sort=list(order),
        title=None,
        axis=make_axis(grid=True, ticks=False, domain=False, labelLimit=190, labelFontSize=13, labelColor=INK),
    )

    def x(field: str) -> alt.X:
        return alt.X(field, title=metric, scale=scale, axis=make_axis(tickCount=5))

    base = alt.Chart()

    def only(kind: str) -> Any:
        return base.transform_filter(f"datum.kind === '{kind}'")

    tip = alt.Description("tip:N")
    return [
        only("majorities")
        .mark_rule(color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3])
        .encode(x=x("majority:Q"), description=tip),
        only("means")
        .mark_rule(color=QUIET, strokeWidth=2, clip=True)
        .encode(x=x("low:Q"), x2="high:Q", y=y, description=tip),
        only("dots").mark_circle(color=DRAW, size=70, opacity=0.65).encode(x=x("value:Q"), y=y, description=tip),
        only("means").mark_tick(color=MEAN, thickness=3, size=20).encode(x=x("mean:Q"), y=y, description=tip),
    ]


def _list_dots(score: TestSetScore) -> list[tuple[float, str]]:
    """Where a method's dots stand and what they say: one a draw, of many draws one for all of a hundredth."""
    where = name_test_set(score.test_set)
    if len(score.draws) <= MOST_DOTS:
        return [(draw.value, f"{where}, data seed {draw.data_seed}: {word_score(draw.value)}") for draw in score.draws]
    counts = Counter(round(draw.value, 2) for draw in score.draws)
    return [(value, f"{where}, about {value:z.2f}: {word_number(n, 'draw')}") for value, n in sorted(counts.items())]


def _word_dot(rows: Sequence[LeaderboardRow]) -> str:
    many = any(len(score.draws) > MOST_DOTS for row in rows for score in row.scores.values())
    return "draws of one hundredth" if many else "one draw"
