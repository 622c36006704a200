"""The charts: decisions, scores with every draw, what a score costs, cost bars, and learning curves.

Owns marks and their hover texts. Does not know how a number came about (`analysis`), how charts look (`look`), where
names stand (`labels`) or where a chart is shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import altair as alt

from fewtune.analysis.audit.finding import word_number
from fewtune.analysis.curves import Curve
from fewtune.analysis.decision import Decision
from fewtune.analysis.frontier import COSTS
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, LeaderboardRow, TestSetScore, name_test_set
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.report.answer import describe_answer, specify_answer
from fewtune.report.labels import place_labels
from fewtune.report.look import (
    finish_chart,
    make_axis,
    make_header,
    make_scale,
    make_title,
    mark_logarithmic,
    name_data,
)
from fewtune.report.palette import BLACK, BLUE, GREEN, INK, QUIET, VERMILION
from fewtune.report.wording import word_bytes, word_count, word_question, word_score, word_seconds

DRAW, MEAN, BASELINE, FRONTIER, ELSEWHERE = BLUE, BLACK, VERMILION, GREEN, VERMILION

SCORES_WIDTH, ROW_HEIGHT, MOST_PANELS = 680, 30, 3
MOST_DOTS = 60
"""Draws up to which each has a dot of its own: thousands of dots take gigabytes to draw."""
COST_WIDTH, COST_HEIGHT, MOST_NAMES = 470, 280, 40
"""With more methods than MOST_NAMES, those on the frontier alone have their names beside their dots."""
BAR_WIDTH, BAR_HEIGHT = 190, 22
CURVE_WIDTH, CURVE_HEIGHT, CURVES_A_ROW = 196, 130, 3

FRONT = {"shape": "diamond", "color": FRONTIER, "size": 150}
OFF_FRONT = {"shape": "circle", "color": DRAW, "size": 100}
"""How a method on the frontier of score against cost is drawn, and one that is not."""


@dataclass(frozen=True)
class Chart:
    """One chart as a Vega-Lite specification; `name` is fit for a file, `title` and `description` say what it shows."""

    kind: str
    name: str
    title: str
    description: str
    specification: dict[str, Any]


@dataclass(frozen=True)
class CostAxis:
    """How one cost is drawn: its title, the least that a log axis shows, and how a value is worded."""

    title: str
    least: float
    word: Callable[[Any], str]


COST_AXES = {
    "fit seconds": CostAxis("seconds to fit", 0.1, word_seconds),
    "peak memory": CostAxis("peak memory, MiB", 1.0, word_bytes),
    "trained parameters": CostAxis("trained parameters", 100.0, word_count),
}
"""The costs that a score is drawn against, by their name in `COSTS`."""
MEBIBYTE = 2**20


DECISION = "decision"
SCORES, BARS = "scores", "cost bars"
KINDS = (SCORES, *COST_AXES, BARS)
"""The charts of a group: its scores, its score against each cost, and what each method costs."""


def draw_decision(study: StudyAnalysis, decision: Decision, *, titled: bool = True) -> Chart:
    """Draw a decision; untitled where its sentence stands above."""
    return Chart(
        DECISION,
        _name_file(decision.question.task, None, f"{decision.question.shots}-{DECISION}"),
        f"Decision: {word_question(decision)}",
        describe_answer(decision),
        specify_answer(decision, study.bounds(decision), titled=titled),
    )


def draw_group(group: GroupAnalysis, kinds: Collection[str] = KINDS) -> list[Chart]:
    """Draw one group's charts of these kinds; none where nothing was scored."""
    board = group.board
    charts = []
    if SCORES in kinds and any(row.in_domain is not None for row in board.rows):
        charts.append(draw_scores(group))
    charts += [draw_costs(group, cost) for cost in COST_AXES if cost in kinds and list_priced(board, cost)]
    if BARS in kinds and list_priced(board, "fit seconds"):
        charts.append(draw_bars(board))
    return charts


def list_priced(board: LeaderboardGroup, cost: str) -> list[tuple[LeaderboardRow, float, float]]:
    """A group's rows with their score and cost, where both are known."""
    return [
        (row, row.in_domain, value)
        for row in board.rows
        if row.in_domain is not None and (value := COSTS[cost](row)) is not None
    ]


def draw_scores(group: GroupAnalysis) -> Chart:
    """Draw each method's scores a test set: a dot a draw, a bar at the mean, its interval, and the majority's rule."""
    board = group.board
    rows = [row for row in board.rows if row.in_domain is not None]
    panels = {name: _head_panel(board, name) for name in board.test_sets}
    order = [row.variant for row in rows]
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
    # One or two panels are not stretched over the whole width: dots far from their names are hard to follow.
    columns = 2 if len(panels) == 4 else min(len(panels), MOST_PANELS)
    panel_width = min(330, SCORES_WIDTH // columns - 16)
    values = [dot["value"] for dot in dots] + [rule["majority"] for rule in majorities]
    low, high = _span(values, [end for mean in means for end in (mean["low"], mean["high"])])
    scale = make_scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y(
        "method:N",
        sort=order,
        title=None,
        axis=make_axis(grid=True, ticks=False, domain=False, labelLimit=190, labelFontSize=13, labelColor=INK),
    )

    def x(field: str) -> alt.X:
        return alt.X(field, title=board.metric, scale=scale, axis=make_axis(tickCount=5))

    kinds = {"dots": dots, "means": means, "majorities": majorities}
    rows_of_all = [{"kind": kind, **row} for kind, found in kinds.items() for row in found]
    base = alt.Chart()

    def only(kind: str) -> Any:
        return base.transform_filter(f"datum.kind === '{kind}'")

    tip = alt.Description("tip:N")
    chart = (
        alt.layer(
            only("majorities")
            .mark_rule(color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3])
            .encode(x=x("majority:Q"), description=tip),
            only("means")
            .mark_rule(color=QUIET, strokeWidth=2, clip=True)
            .encode(x=x("low:Q"), x2="high:Q", y=y, description=tip),
            only("dots").mark_circle(color=DRAW, size=70, opacity=0.65).encode(x=x("value:Q"), y=y, description=tip),
            only("means").mark_tick(color=MEAN, thickness=3, size=20).encode(x=x("mean:Q"), y=y, description=tip),
            data=name_data("rows"),
        )
        .properties(width=panel_width, height=ROW_HEIGHT * len(order))
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
    return _finish(chart, {"rows": rows_of_all}, board, SCORES, "Every draw, in and out of domain", description)


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


def draw_costs(group: GroupAnalysis, cost: str) -> Chart:
    """Draw the in-domain score against a cost on a log axis, each method named, those on the frontier as diamonds."""
    board, axis, front = group.board, COST_AXES[cost], group.frontiers[cost]
    scale = MEBIBYTE if cost == "peak memory" else 1
    points = [
        (row.variant, max(value / scale, axis.least), score, value) for row, score, value in list_priced(board, cost)
    ]
    majority = board.majority.get(IN_DOMAIN)
    low, high = _span([score for _, _, score, _ in points] + ([majority] if majority is not None else []))
    high += 0.06 * (high - low)  # room for names over the highest dots
    costs = [shown for _, shown, _, _ in points]
    first, last = min(costs) / 2, max(costs) * 4  # room for dots and for names to the right
    pixels = [
        (COST_WIDTH * math.log(shown / first) / math.log(last / first), COST_HEIGHT * (high - score) / (high - low))
        for _, shown, score, _ in points
    ]
    rule = None if majority is None else COST_HEIGHT * (high - majority) / (high - low)
    named = range(len(points)) if len(points) <= MOST_NAMES else [i for i, p in enumerate(points) if p[0] in front]
    labels = place_labels([points[i][0] for i in named], [pixels[i] for i in named], COST_WIDTH, COST_HEIGHT, rule)

    def cost_at(x: float) -> float:
        return first * math.pow(last / first, x / COST_WIDTH)

    def score_at(y: float) -> float:
        return high - y / COST_HEIGHT * (high - low)

    tips = [f"{name}: {word_score(score)} {board.metric}, {axis.word(value)}" for name, _, score, value in points]
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
            "method": points[number][0],
            "tip": tips[number],
            "align": label.align,
            "cost": cost_at(label.x),
            "score": score_at(label.y),
        }
        for number, label in zip(named, labels, strict=True)
    ]
    lines = [
        {"cost": cost_at(x), "score": score_at(y), "cost_end": cost_at(end_x), "score_end": score_at(end_y)}
        for (x, y), (end_x, end_y) in (label.line for label in labels if label.line)
    ]
    x = alt.X(
        "cost:Q",
        title=f"{axis.title}, log scale (less is drawn at {axis.least:g})",
        scale=make_scale(type="log", domain=[first, last], nice=False),
        axis=make_axis(values=mark_logarithmic(first, last), format="~s" if last > 10_000 else "~g"),
    )
    y = alt.Y(
        "score:Q",
        title=f"{board.metric}, in domain",
        scale=make_scale(domain=[low, high], nice=False, zero=False),
        axis=make_axis(tickCount=6),
    )
    tip_of_row = alt.Description("tip:N")
    layers: list[alt.Chart] = []
    if majority is not None:
        layers.append(
            alt.Chart(name_data("majority"))
            .mark_rule(color=BASELINE, strokeWidth=1.5, strokeDash=[5, 3])
            .encode(y=y, description=tip_of_row)
        )
    if lines:
        layers.append(
            alt.Chart(name_data("lines"))
            .mark_rule(color=QUIET, strokeWidth=1, aria=False)
            .encode(x=x, y=y, x2="cost_end:Q", y2="score_end:Q")
        )
    layers += [
        alt.Chart(name_data("points"))
        .mark_point(filled=True, opacity=0.9)
        .encode(
            x=x,
            y=y,
            # Shape, colour and size stand in the rows themselves.
            shape=alt.Shape("shape:N", scale=None),
            color=alt.Color("color:N", scale=None),
            size=alt.Size("size:Q", scale=None),
            description=tip_of_row,
        ),
        alt.Chart(name_data("names"))
        .mark_text(align=alt.expr("datum.align"), baseline="middle", color=INK, fontSize=13)
        .encode(x=x, y=y, text="method:N", description=tip_of_row),
    ]
    what = f"Score against {axis.title.split(',')[0]}"
    chart = alt.layer(*layers).properties(
        width=COST_WIDTH,
        height=COST_HEIGHT,
        title=make_title(what, "diamond: no method scores as much for less · dot: another does · dashed: majority"),
    )
    description = f"{board.title}. " + " ".join(
        f"{name}: {word_score(score)} {board.metric}, {axis.word(value)}." for name, _, score, value in points
    )
    datasets: dict[str, list[dict[str, Any]]] = {
        "majority": [{"score": majority, "tip": f"majority: {word_score(majority)} {board.metric}"}],
        "points": values,
        "names": names,
        "lines": lines,
    }
    return _finish(chart, datasets, board, cost, what, description)


def draw_bars(board: LeaderboardGroup) -> Chart:
    """Draw what each method costs as bars: seconds to fit, milliseconds a row, peak memory."""
    panels = {
        "seconds to fit": ("fit seconds", 1.0),
        "milliseconds a row": ("seconds a row", 1000.0),
        "peak memory, MiB": ("peak memory", 1 / MEBIBYTE),
    }
    rows = [row for row in board.rows if row.done]
    values = [
        {
            "panel": panel,
            "method": row.variant,
            "value": factor * value,
            "tip": f"{row.variant}: {factor * value:.3g} {panel}",
        }
        for panel, (cost, factor) in panels.items()
        for row in rows
        if (value := COSTS[cost](row)) is not None
    ]
    bars = (
        alt.Chart()
        .mark_bar(color=DRAW, opacity=0.85, cornerRadiusEnd=2)
        .encode(
            x=alt.X("value:Q", title=None, axis=make_axis(tickCount=3)),
            y=alt.Y(
                "method:N",
                sort=[row.variant for row in rows],
                title=None,
                axis=make_axis(ticks=False, domain=False, labelLimit=190, labelFontSize=13, labelColor=INK),
            ),
            description=alt.Description("tip:N"),
        )
        .properties(width=BAR_WIDTH, height=BAR_HEIGHT * len(rows))
    )
    chart = (
        alt.layer(bars, data=name_data("rows"))
        .facet(
            facet=alt.Facet("panel:N", sort=list(panels), title=None, header=make_header(BAR_WIDTH)),
            columns=len(panels),
            spacing=26,
        )
        .resolve_scale(x="independent")
        .properties(title=make_title("What each method costs", "mean over done trials; memory of the hungriest"))
    )
    description = f"{board.title}. " + " ".join(
        f"{row.variant}: {word_seconds(row.fit_seconds)} to fit, {word_bytes(row.memory_bytes)} of memory."
        for row in rows
    )
    return _finish(chart, {"rows": values}, board, BARS, "What each method costs", description)


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
    low, high = _span([line["mean"] for line in lines], [line.get(end) for line in lines for end in ("low", "high")])
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
    name = _name_file(first.task, first.model, "learning-curves")
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


def _head_panel(board: LeaderboardGroup, test_set: str) -> str:
    return f"{name_test_set(test_set)}, majority {word_score(board.majority.get(test_set))}"


def _span(values: Sequence[float], ends: Sequence[float | None] = ()) -> tuple[float, float]:
    """From where to where a score's axis goes: all values, and intervals' ends up to the values' own width further.

    Intervals of two draws reach far beyond any score: they are cut at the frame, and tables have their ends.
    """
    low, high = min(values), max(values)
    width = max(high - low, 0.1)
    known = [end for end in ends if end is not None]
    low = min(low, max(low - width, min(known, default=low)))
    high = max(high, min(high + width, max(known, default=high)))
    margin = max(0.02, 0.04 * (high - low))
    return low - margin, high + margin


def _finish(
    chart: Any,
    datasets: Mapping[str, list[dict[str, Any]]],
    board: LeaderboardGroup,
    kind: str,
    what: str,
    description: str,
) -> Chart:
    name = _name_file(board.task, board.model, f"{board.shots}-{kind}")
    return Chart(kind, name, f"{what}: {board.title}", description, finish_chart(chart, datasets))


def _name_file(task: str, model: str | None, kind: str) -> str:
    words = "-".join(part for part in (task, model, kind) if part)
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words)
