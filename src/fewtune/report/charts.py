"""The charts, as SVG that needs no script: scores with every draw, and what each method costs.

Owns marks and labels. Does not know how a number came about (`analysis`), how charts look (`look`) or where one is
shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt

from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup
from fewtune.report.breakdowns import name_test_set
from fewtune.report.look import (
    BLACK,
    BLUE,
    INK,
    VERMILION,
    hold_values,
    make_axis,
    make_header,
    make_title,
    mark_logarithmic,
    render_chart,
)
from fewtune.report.tables import word_score, word_seconds

DRAW, MEAN, BASELINE = BLUE, BLACK, VERMILION

SCORES_WIDTH, ROW_HEIGHT, MOST_PANELS = 680, 30, 3
COST_WIDTH, COST_HEIGHT = 470, 280
SHORTEST_SECONDS = 0.1
"""Shorter fits are drawn at this time: a log axis has no room for zero."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Alignment = Literal["left", "right", "center"]
ALIGNMENTS: tuple[Alignment, ...] = ("left", "right", "center")


@dataclass(frozen=True)
class Label:
    """Where a name stands: x is its left edge, right edge or centre by `align`, y its middle, in pixels."""

    x: float
    y: float
    align: Alignment


@dataclass(frozen=True)
class Chart:
    """One chart: `svg` is safe to stand in a page as it is, its title and description are inside it."""

    title: str
    description: str
    svg: str


def draw_charts(group: LeaderboardGroup, prefix: str) -> list[Chart]:
    """Draw a group's charts; none where nothing was scored. `prefix` keeps ids apart in one page."""
    charts = []
    if any(row.in_domain is not None for row in group.rows):
        charts.append(draw_scores(group, f"{prefix}-scores"))
    if any(row.in_domain is not None and row.fit_seconds is not None for row in group.rows):
        charts.append(draw_costs(group, f"{prefix}-costs"))
    return charts


def draw_scores(group: LeaderboardGroup, chart_id: str) -> Chart:
    """Draw each method's score a test set: a dot a draw, a bar at the mean, a dashed rule at the majority."""
    rows = [row for row in group.rows if row.in_domain is not None]
    panels = {name: _head_panel(group, name) for name in group.test_sets}
    values = [
        {
            "panel": panels[name],
            "method": row.variant,
            "value": draw.value,
            "majority": group.majority.get(name),
        }
        for row in rows
        for name in group.test_sets
        for draw in row.scores[name].draws
    ]
    order = [row.variant for row in rows]
    # One or two panels are not stretched over the whole width: dots far from their names are hard to follow.
    panel_width = min(360, SCORES_WIDTH // min(len(panels), MOST_PANELS) - 16)
    scored = [draw.value for row in rows for score in row.scores.values() for draw in score.draws]
    low, high = _span(scored + [value for value in group.majority.values() if value is not None])
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x_axis = make_axis(tickCount=5)
    y = alt.Y(
        "method:N",
        sort=order,
        title=None,
        axis=make_axis(grid=True, ticks=False, domain=False, labelLimit=190, labelFontSize=13, labelColor=INK),
    )
    base = alt.Chart()
    rule = base.mark_rule(color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3]).encode(
        x=alt.X("mean(majority):Q", title=group.metric, scale=scale, axis=x_axis)
    )
    dots = base.mark_circle(color=DRAW, size=70, opacity=0.65).encode(
        x=alt.X("value:Q", title=group.metric, scale=scale, axis=x_axis), y=y
    )
    means = base.mark_tick(color=MEAN, thickness=3, size=20).encode(
        x=alt.X("mean(value):Q", title=group.metric, scale=scale, axis=x_axis), y=y
    )
    chart = (
        alt.layer(rule, dots, means, data=hold_values(values))
        .properties(width=panel_width, height=ROW_HEIGHT * len(order))
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels.values()), title=None, header=make_header(panel_width)),
            columns=MOST_PANELS,
            spacing=26,
        )
        .properties(
            title=make_title("Scores in and out of domain", "dot: one draw · bar: mean of draws · dashed: majority")
        )
    )
    description = f"{group.title}, {group.metric}. " + " ".join(
        f"{row.variant}: "
        + ", ".join(f"{name_test_set(n)} {word_score(row.scores[n].mean)}" for n in group.test_sets)
        + "."
        for row in rows
    )
    title = f"Scores in and out of domain: {group.title}"
    return Chart(title, description, render_chart(chart, chart_id, title, description))


def draw_costs(group: LeaderboardGroup, chart_id: str) -> Chart:
    """Draw the in-domain score against fit seconds on a log axis, each method named at its point."""
    points = [
        (row.variant, max(row.fit_seconds, SHORTEST_SECONDS), row.in_domain, row.fit_seconds)
        for row in group.rows
        if row.fit_seconds is not None and row.in_domain is not None
    ]
    majority = group.majority.get(IN_DOMAIN)
    low, high = _span([score for _, _, score, _ in points] + ([majority] if majority is not None else []))
    seconds = [shown for _, shown, _, _ in points]
    first, last = min(seconds) / 2, max(seconds) * 4  # room for dots and for names to the right
    pixels = [
        (
            COST_WIDTH * math.log(shown / first) / math.log(last / first),
            COST_HEIGHT * (high - score) / (high - low),
        )
        for _, shown, score, _ in points
    ]
    rule = None if majority is None else COST_HEIGHT * (high - majority) / (high - low)
    labels = place_labels([name for name, *_ in points], pixels, COST_WIDTH, COST_HEIGHT, rule)
    values = [{"seconds": shown, "score": score} for _, shown, score, _ in points]
    names = [
        {
            "method": name,
            "align": label.align,
            "seconds": first * (last / first) ** (label.x / COST_WIDTH),
            "score": high - label.y / COST_HEIGHT * (high - low),
        }
        for (name, *_), label in zip(points, labels, strict=True)
    ]
    x = alt.X(
        "seconds:Q",
        title=f"seconds to fit, log scale (below {SHORTEST_SECONDS:g} s drawn at {SHORTEST_SECONDS:g})",
        scale=alt.Scale(type="log", domain=[first, last], nice=False),
        axis=make_axis(values=mark_logarithmic(first, last), format="~g"),
    )
    y = alt.Y(
        "score:Q",
        title=f"{group.metric}, in domain",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=make_axis(tickCount=6),
    )
    layers: list[alt.Chart] = []
    if majority is not None:
        layers.append(
            alt.Chart(hold_values([{"score": majority}]))
            .mark_rule(color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3])
            .encode(y=y)
        )
    layers.append(alt.Chart(hold_values(values)).mark_circle(color=DRAW, size=110, opacity=0.8).encode(x=x, y=y))
    layers += [
        alt.Chart(hold_values([label for label in names if label["align"] == align]))
        .mark_text(align=align, baseline="middle", color=INK, fontSize=13)
        .encode(x=x, y=y, text="method:N")
        for align in ALIGNMENTS
    ]
    chart = alt.layer(*layers).properties(
        width=COST_WIDTH,
        height=COST_HEIGHT,
        title=make_title("What a score costs", "dot: mean of draws · dashed: majority"),
    )
    description = f"{group.title}. " + " ".join(
        f"{name}: {word_score(score)} {group.metric} after {word_seconds(true)} of fitting."
        for name, _, score, true in points
    )
    title = f"Score against seconds to fit: {group.title}"
    return Chart(title, description, render_chart(chart, chart_id, title, description))


def place_labels(
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    width: float,
    height: float,
    rule: float | None,
) -> list[Label]:
    """Place each name near its point (x, y), clear of points, names and the rule at height `rule` if it can."""
    character, gap = 6.8, 11.0
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    if rule is not None:
        taken.append((0.0, rule - 1, width, rule + 1))
    placed = []
    for name, (x, y) in zip(names, points, strict=True):
        size = character * len(name)
        choices = [
            Label(edge, y + step, align)
            for steps in ((0, -8, 8), (-16, 16), (-26, 26), (-38, 38))
            for edge, align in zip((x + gap, x - gap, x), ALIGNMENTS, strict=True)
            for step in steps
        ]
        inside = [c for c in choices if _fits(_box(c, size), width, height)]
        clear = [c for c in inside if not any(_overlap(_box(c, size), other) for other in taken)]
        chosen = (clear or inside or choices)[0]
        taken.append(_box(chosen, size))
        placed.append(chosen)
    return placed


def _box(label: Label, width: float) -> Box:
    left = label.x - {"left": 0.0, "center": width / 2, "right": width}[label.align]
    return left, label.y - 7.5, left + width, label.y + 7.5


def _fits(box: Box, width: float, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _head_panel(group: LeaderboardGroup, test_set: str) -> str:
    return f"{name_test_set(test_set)}, majority {word_score(group.majority.get(test_set))}"


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.02, 0.08 * (high - low))
    return low - margin, high + margin
