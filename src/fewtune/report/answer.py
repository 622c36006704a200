"""The picture of a decision: each method's score and how far it may be below the best, what it costs, the chosen one.

Owns marks and their hover texts. Does not know how a bound came about (`analysis`) or how charts look (`look`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import altair as alt

from fewtune.analysis.decision import Contender, Decision
from fewtune.analysis.stability import Bounds
from fewtune.report.look import finish_chart, make_axis, make_scale, make_title, name_data
from fewtune.report.palette import BLUE, GREEN, INK, QUIET, VERMILION
from fewtune.report.wording import mark_unlabelled, word_bound, word_decision, word_question, word_score, word_seconds

SCORE_WIDTH, REGRET_WIDTH, COST_WIDTH, ROW_HEIGHT, NAME_WIDTH = 150, 150, 62, 26, 170
TITLE_COLUMNS, FONT_SIZE = 62, 14
TICKS = (0, 1, 3, 10, 30, 100)
"""Points at which the axis of regret bounds has its ticks: it goes by square roots, for small ones are what counts."""


def list_scored(decision: Decision) -> list[Contender]:
    """The methods that have a score, as they are drawn: those compared first, the highest mean first."""
    return [each for each in decision.contenders if each.score is not None]


def specify_answer(decision: Decision, bounds: Mapping[str, Bounds], *, titled: bool = True) -> dict[str, Any]:
    """The chart's specification; `bounds` are score intervals by method. Untitled where the sentence stands above."""
    rows = [_describe(decision, each, bounds.get(each.name)) for each in list_scored(decision)]
    y = alt.Y(
        "method:N",
        sort=[row["method"] for row in rows],
        title=None,
        axis=make_axis(
            ticks=False, domain=False, labelLimit=NAME_WIDTH, labelFontSize=FONT_SIZE, labelColor=INK, offset=4
        ),
    )
    bare = alt.Y("method:N", sort=[row["method"] for row in rows], title=None, axis=None)
    size = {"height": ROW_HEIGHT * len(rows)}
    panels = alt.hconcat(
        _draw_scores(decision, rows, y).properties(width=SCORE_WIDTH, **size),
        _draw_regrets(decision, rows, bare).properties(width=REGRET_WIDTH, **size),
        _draw_costs(bare).properties(width=COST_WIDTH, **size),
        spacing=12,
        data=name_data("rows"),
    )
    if titled:
        sentence = textwrap.wrap(f"{word_question(decision)}: {word_decision(decision)}", TITLE_COLUMNS)
        panels = panels.properties(title=make_title("", "") | {"text": sentence, "subtitle": ""})
    points = 100 * decision.question.within
    tolerance = {"points": points, "tip": f"the tolerance: {points:g} points below the best"}
    return finish_chart(panels, {"rows": rows, "tolerance": [tolerance]})


def describe_answer(decision: Decision) -> str:
    """What the chart shows, in words."""
    each = [
        f"{c.name}: {word_score(c.score)} {decision.question.metric}, at most {word_bound(c)} points below the best, "
        f"{word_seconds(c.seconds)}."
        for c in list_scored(decision)
    ]
    return " ".join([word_decision(decision), *each])


def _describe(decision: Decision, contender: Contender, bounds: Bounds | None) -> dict[str, Any]:
    chosen = decision.chosen is not None and decision.chosen.name == contender.name
    regret = None if contender.regret is None else contender.regret.bound
    name = mark_unlabelled(contender.name, contender.unlabelled)
    return {
        "method": f"✓ {name}" if chosen else name,
        "score": contender.score,
        "low": None if bounds is None else bounds.low,
        "high": None if bounds is None else bounds.high,
        "points": None if regret is None else 100 * regret,
        "zero": 0,
        "cost": word_seconds(contender.seconds),
        "color": GREEN if chosen else BLUE,
        "tip": f"{contender.name}: {word_score(contender.score)} {decision.question.metric}, at most "
        f"{word_bound(contender)} points below the best, {word_seconds(contender.seconds)} to fit and answer",
    }


def _draw_scores(decision: Decision, rows: list[dict[str, Any]], y: alt.Y) -> Any:
    values = [row["score"] for row in rows]
    margin = 0.06 * max(0.1, max(values) - min(values)) if values else 0.0
    ends = [row[end] for row in rows for end in ("low", "high") if row[end] is not None]
    # Intervals of few draws reach beyond any score: they are cut at the frame, and tables have their ends.
    low = max(min(values) - 6 * margin, min([*ends, *values])) if values else 0.0
    high = min(max(values) + 6 * margin, max([*ends, *values])) if values else 1.0
    scale = make_scale(domain=[low - margin, high + margin], nice=False, zero=False)
    x = alt.X("score:Q", title=decision.question.metric, scale=scale, axis=_axis(tickCount=3))
    base, tip = alt.Chart(), alt.Description("tip:N")
    color = alt.Color("color:N", scale=None)
    ends_x = alt.X("low:Q", title=decision.question.metric, scale=scale, axis=_axis(tickCount=3))
    return alt.layer(
        base.mark_rule(strokeWidth=3, opacity=0.45, clip=True).encode(
            x=ends_x, x2="high:Q", y=y, color=color, description=tip
        ),
        base.mark_circle(size=110, opacity=1).encode(x=x, y=y, color=color, description=tip),
    )


def _draw_regrets(decision: Decision, rows: list[dict[str, Any]], y: alt.Y) -> Any:
    points = [row["points"] for row in rows if row["points"] is not None]
    most = max([100 * decision.question.within * 2, *points])
    title = "points below the best, at most"
    values = [tick for tick in TICKS if tick <= most]
    scale = make_scale(type="sqrt", domain=[0, most * 1.05], nice=False)
    x = alt.X("points:Q", title=title, scale=scale, axis=_axis(values=values))
    zero = alt.X("zero:Q", title=title, scale=scale, axis=_axis(values=values))
    base, tip = alt.Chart(), alt.Description("tip:N")
    color = alt.Color("color:N", scale=None)
    rule = alt.Chart(name_data("tolerance")).mark_rule(color=VERMILION, strokeWidth=1.5, strokeDash=[5, 3])
    return alt.layer(
        base.mark_rule(strokeWidth=9, opacity=0.35).encode(x=zero, x2="points:Q", y=y, color=color, description=tip),
        base.mark_tick(thickness=3, size=16).encode(x=x, y=y, color=color, description=tip),
        rule.encode(x=x, description=tip),
    )


def _draw_costs(y: alt.Y) -> Any:
    text = alt.Chart().mark_text(align="right", fontSize=FONT_SIZE, color=INK)
    axis = _axis(values=[], grid=False)
    where = alt.X("zero:Q", title="fit, 1,000 rows", scale=make_scale(domain=[-1, 0]), axis=axis)
    return text.encode(x=where, y=y, text="cost:N", description=alt.Description("tip:N"))


def _axis(**options: Any) -> dict[str, Any]:
    return make_axis(domain=False, ticks=False, titleColor=QUIET, labelFontSize=FONT_SIZE - 1, **options)
