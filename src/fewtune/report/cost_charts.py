"""Cost charts of a group: score against each cost, and every cost as a bar.

Owns the costs that are drawn, marks and their hover texts. Where names stand is `labels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from fewtune.analysis.frontier import COSTS
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, LeaderboardRow
from fewtune.analysis.study import GroupAnalysis
from fewtune.report.chart import BASELINE, DRAW, FRONTIER, Chart, finish_group_chart, span_values
from fewtune.report.labels import FONT_SIZE, LINE_HEIGHT, Spot, place_labels
from fewtune.report.look import (
    NARROW,
    WIDE,
    Room,
    make_axis,
    make_header,
    make_marks,
    make_scale,
    make_title,
    mark_logarithmic,
    name_data,
)
from fewtune.report.names import set_names
from fewtune.report.palette import INK, QUIET
from fewtune.report.wording import (
    MAJORITY,
    format_count,
    format_memory,
    format_milliseconds,
    format_score,
    format_seconds,
)
from fewtune.report.wrapping import wrap_text

BARS = "cost bars"
COST_WIDTH, NARROW_COST_WIDTH, COST_HEIGHT, MOST_NAMES = 470, 268, 280, 40
"""With more methods than MOST_NAMES, those on the frontier alone have their names beside their dots."""
BAR_WIDTH, BAR_HEIGHT = 190, 22
FRONT = {"shape": "diamond", "color": FRONTIER, "size": 150}
OFF_FRONT = {"shape": "circle", "color": DRAW, "size": 100}
"""How a method on the frontier of score against cost is drawn, and one that is not."""
MEBIBYTE = 2**20


@dataclass(frozen=True)
class CostAxis:
    """How one cost is drawn: its title, the least that a log axis shows, and how a value is worded."""

    title: str
    least: float
    word: Callable[[Any], str]


COST_AXES = {
    "fit seconds": CostAxis("seconds to fit", 0.1, format_seconds),
    "peak memory": CostAxis("peak memory, MiB", 1.0, format_memory),
    "trained parameters": CostAxis("trained parameters", 100.0, format_count),
}
"""The costs that a score is drawn against, by their name in `COSTS`."""


def list_priced(board: LeaderboardGroup, cost: str) -> list[tuple[LeaderboardRow, float, float]]:
    """A group's rows with their score and cost, where both are known."""
    return [
        (row, row.in_domain, value)
        for row in board.rows
        if row.in_domain is not None and (value := COSTS[cost](row)) is not None
    ]


@dataclass(frozen=True)
class _Plane:
    """Scores from `low` to `high`, upwards, over costs from `first` to `last` on a log axis `width` pixels long."""

    first: float
    last: float
    low: float
    high: float
    width: int

    @classmethod
    def hold(cls, costs: Sequence[float], scores: Sequence[float], width: int) -> _Plane:
        """The plane that has room for these, and for names over the highest dots and to the right of the dearest."""
        low, high = span_values(scores)
        return cls(min(costs) / 2, max(costs) * 4, low, high + 0.06 * (high - low), width)

    def place(self, cost: float, score: float) -> Spot:
        """Where a point stands, in pixels from the upper left corner."""
        x = math.log(cost / self.first) / math.log(self.last / self.first)
        return self.width * x, COST_HEIGHT * (self.high - score) / (self.high - self.low)

    def read(self, spot: Spot, end: str = "") -> dict[str, float]:
        """The cost and score that stand there, as a row of a chart's data, their names with an ending."""
        x, y = spot
        cost = self.first * math.pow(self.last / self.first, x / self.width)
        return {f"cost{end}": cost, f"score{end}": self.high - y / COST_HEIGHT * (self.high - self.low)}


def draw_costs(group: GroupAnalysis, cost: str, room: Room = WIDE) -> Chart:
    """Draw the in-domain score against a cost on a log axis, each method named, those on the frontier as diamonds."""
    board, axis, front = group.board, COST_AXES[cost], group.frontiers[cost]
    scale = MEBIBYTE if cost == "peak memory" else 1
    points = [
        (row.variant, max(value / scale, axis.least), score, value) for row, score, value in list_priced(board, cost)
    ]
    majority = board.majority.get(IN_DOMAIN)
    scores = [score for _, _, score, _ in points] + ([majority] if majority is not None else [])
    plane = _Plane.hold(
        [shown for _, shown, _, _ in points], scores, NARROW_COST_WIDTH if room is NARROW else COST_WIDTH
    )
    rule = None if majority is None else plane.place(plane.first, majority)[1]
    named = range(len(points)) if len(points) <= MOST_NAMES else [i for i, p in enumerate(points) if p[0] in front]
    spots = [plane.place(points[i][1], points[i][2]) for i in named]
    texts = [wrap_text(points[i][0], room.name_columns) for i in named]
    labels = place_labels(texts, spots, plane.width, COST_HEIGHT, rule)
    tips = [f"{name}: {format_score(score)} {board.metric}, {axis.word(value)}" for name, _, score, value in points]
    values = [
        {
            "cost": shown,
            "score": score,
            **(FRONT if name in front else OFF_FRONT),
            "tip": tip,
        }
        for (name, shown, score, _), tip in zip(points, tips, strict=True)
    ]
    names = [
        {
            "text": text,
            "tip": tips[number],
            "align": label.align,
            "up": -0.5 * text.count("\n") * LINE_HEIGHT,
            **plane.read((label.x, label.y)),
        }
        for number, text, label in zip(named, texts, labels, strict=True)
    ]
    lines = [plane.read(start) | plane.read(end, "_end") for start, end in (each.line for each in labels if each.line)]
    what = f"Score against {axis.title.split(',')[0]}"
    legend = f"diamond: no method scores as much for less · dot: another does · dashed: {MAJORITY}"
    title = make_title(what, legend, room)
    layers = _layer_costs(plane, axis, board.metric, majority is not None, bool(lines))
    chart = alt.layer(*layers).properties(width=plane.width, height=COST_HEIGHT, title=title)
    description = f"{board.title}. " + " ".join(
        f"{name}: {format_score(score)} {board.metric}, {axis.word(value)}." for name, _, score, value in points
    )
    datasets: dict[str, list[dict[str, Any]]] = {
        "majority": [{"score": majority, "tip": f"{MAJORITY}: {format_score(majority)} {board.metric}"}],
        "points": values,
        "names": names,
        "lines": lines,
    }
    return finish_group_chart(chart, datasets, board, cost, what, description, room)


def _layer_costs(plane: _Plane, axis: CostAxis, metric: str, has_majority: bool, has_lines: bool) -> list[alt.Chart]:
    """The layers of `draw_costs`, the lowest first, over its named data."""
    x = alt.X(
        "cost:Q",
        title=f"{axis.title}, log scale (less is drawn at {axis.least:g})",
        scale=make_scale(type="log", domain=[plane.first, plane.last], nice=False),
        axis=make_axis(values=mark_logarithmic(plane.first, plane.last), format="~s" if plane.last > 10_000 else "~g"),
    )
    y = alt.Y(
        "score:Q",
        title=f"{metric}, in domain",
        scale=make_scale(domain=[plane.low, plane.high], nice=False, zero=False),
        axis=make_axis(tickCount=6),
    )
    tip_of_row = alt.Description("tip:N")
    layers: list[alt.Chart] = []
    if has_majority:
        layers.append(
            make_marks("rule", name_data("majority"), color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3]).encode(
                y=y, description=tip_of_row
            )
        )
    if has_lines:
        layers.append(
            make_marks("rule", name_data("lines"), color=QUIET, strokeWidth=1, aria=False).encode(
                x=x, y=y, x2=alt.X2("cost_end:Q"), y2=alt.Y2("score_end:Q")
            )
        )
    layers += [
        make_marks("point", name_data("points"), filled=True, opacity=0.9).encode(
            x=x,
            y=y,
            # Shape, colour and size stand in the rows themselves.
            shape=alt.Shape("shape:N", scale=None),
            color=alt.Color("color:N", scale=None),
            size=alt.Size("size:Q", scale=None),
            description=tip_of_row,
        ),
        make_marks(
            "text",
            name_data("names"),
            align={"expr": "datum.align"},
            baseline="middle",
            dy={"expr": "datum.up"},
            lineBreak="\n",
            lineHeight=LINE_HEIGHT,
            color=INK,
            fontSize=FONT_SIZE,
        ).encode(x=x, y=y, text=alt.Text("text:N"), description=tip_of_row),
    ]
    return layers


def draw_bars(board: LeaderboardGroup, room: Room = WIDE) -> Chart:
    """Draw what each method costs as bars: seconds to fit, milliseconds a row, peak memory."""
    panels: dict[str, tuple[str, float, Callable[[float], str]]] = {
        "seconds to fit": ("fit seconds", 1.0, lambda value: f"{format_seconds(value)} to fit"),
        "milliseconds a row": ("seconds a row", 1000.0, lambda value: f"{format_milliseconds(value)} ms a row"),
        "peak memory, MiB": ("peak memory", 1 / MEBIBYTE, lambda value: f"{format_memory(int(value))} of memory"),
    }
    rows = [row for row in board.rows if row.done]
    names = set_names([row.variant for row in rows], room)
    columns = 1 if room is NARROW else len(panels)
    width = room.width - names.width if room is NARROW else BAR_WIDTH
    values = [
        {
            "kind": "bars",
            "panel": panel,
            "method": row.variant,
            "value": factor * value,
            "tip": f"{row.variant}: {word(value)}",
        }
        for panel, (cost, factor, word) in panels.items()
        for row in rows
        if (value := COSTS[cost](row)) is not None
    ]
    shown = list(dict.fromkeys(bar["panel"] for bar in values))
    values += [row for panel in shown[::columns] for row in names.list_rows(panel=panel)]
    y = alt.Y(
        "method:N",
        sort=list(names.lines),
        title=None,
        axis=make_axis(ticks=False, domain=False, labels=False),
    )
    bars = (
        make_marks("bar", color=DRAW, opacity=0.85, cornerRadiusEnd=2, size=BAR_HEIGHT - 3)
        .transform_filter("datum.kind === 'bars'")
        .encode(
            x=alt.X("value:Q", title=None, axis=make_axis(tickCount=3, labelFlush=False)),
            y=y,
            description=alt.Description("tip:N"),
        )
    )
    chart = (
        alt.layer(names.layer(y), bars, data=name_data("rows"))
        .properties(width=width, height=names.measure_row(BAR_HEIGHT) * len(rows))
        .facet(
            facet=alt.Facet("panel:N", sort=[str(panel) for panel in shown], title=None, header=make_header()),
            columns=columns,
            spacing=26,
        )
        .resolve_scale(x="independent")
        .properties(title=make_title("What each method costs", "mean over done trials; memory of the hungriest", room))
    )
    description = f"{board.title}. " + " ".join(
        f"{row.variant}: {format_seconds(row.fit_seconds)} to fit, {format_memory(row.memory_bytes)} of memory."
        for row in rows
    )
    return finish_group_chart(chart, {"rows": values}, board, BARS, "What each method costs", description, room)
