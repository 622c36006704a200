"""The reliability chart of a model: accuracy by stated probability.

Owns the chart. Where the bins come from is `fewtune.metrics.reliability`. Source: Niculescu-Mizil and Caruana 2005,
https://doi.org/10.1145/1102351.1102430
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from fewtune.metrics.reliability import ReliabilityBin
from fewtune.plurals import pluralise
from fewtune.report.look import finish_chart, make_axis, make_marks, make_scale, make_title, name_data
from fewtune.report.palette import BLUE, QUIET, VERMILION

SIDE = 320


def specify_reliability(series: Mapping[str, Sequence[ReliabilityBin]]) -> Any:
    """The chart's specification, of one series of bins or of two by name, such as before and after calibration."""
    names = list(series)
    rows: list[dict[str, Any]] = [
        {
            "series": name,
            "confidence": each.confidence,
            "accuracy": each.accuracy,
            "low": each.low,
            "high": each.high,
            "rows": each.rows,
            "tip": f"{name}: {pluralise(each.rows, 'row')} answered at {each.confidence:.2f}, {each.accuracy:.2f} of "
            f"them right [{each.low:.2f}, {each.high:.2f}]",
        }
        for name in names
        for each in series[name]
    ]
    scale = make_scale(domain=[0, 1], nice=False)
    axis = make_axis(tickCount=5, format=".1f")
    x = alt.X("confidence:Q", title="probability of the answer", scale=scale, axis=axis)
    colour: Any = alt.value(BLUE)
    if len(names) > 1:
        colour = alt.Color(
            "series:N",
            scale={"domain": names, "range": [VERMILION, BLUE]},
            legend={"title": None, "orient": "top", "symbolOpacity": 1},
        )
    tip = alt.Description("tip:N")
    rows_data = name_data("rows")
    chart = alt.layer(
        make_marks("line", name_data("ideal"), color=QUIET, strokeDash=[5, 3], strokeWidth=1.5).encode(
            x=x, y=alt.Y("accuracy:Q", title="share that is right", scale=scale, axis=axis)
        ),
        make_marks("rule", rows_data, strokeWidth=2, opacity=0.6).encode(
            x=x, y=alt.Y("low:Q", title="share that is right"), y2=alt.Y2("high:Q"), color=colour, description=tip
        ),
        make_marks("circle", rows_data, opacity=0.9).encode(
            x=x,
            y=alt.Y("accuracy:Q"),
            color=colour,
            size=alt.Size("rows:Q", scale={"range": [30, 260], "zero": True}, legend=None),
            description=tip,
        ),
    ).properties(
        width=SIDE,
        height=SIDE,
        title=make_title(
            "How sure, how right",
            "dot: answers of one tenth, larger where more · line: 95 % interval · dashed: as it says",
        ),
    )
    ideal = [{"confidence": end, "accuracy": end} for end in (0.0, 1.0)]
    return finish_chart(chart, {"rows": rows, "ideal": ideal})
