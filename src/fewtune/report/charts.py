"""Lists the charts of a study and of its groups.

Owns their kinds and order. How each is drawn is `score_chart`, `cost_charts`, `curve_chart` and `answer`.
"""

from __future__ import annotations

from collections.abc import Collection

from fewtune.analysis.decision import Decision
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.report.answer import describe_answer, specify_answer
from fewtune.report.chart import Chart, name_file
from fewtune.report.cost_charts import BARS, COST_AXES, draw_bars, draw_costs, list_priced
from fewtune.report.look import WIDE, Room
from fewtune.report.score_chart import SCORES, draw_scores
from fewtune.report.wording import format_question

DECISION = "decision"
KINDS = (SCORES, *COST_AXES, BARS)
"""The charts of a group: its scores, its score against each cost, and what each method costs."""


def draw_decision(study: StudyAnalysis, decision: Decision, room: Room = WIDE, *, titled: bool = True) -> Chart:
    """Draw a decision; untitled where its sentence stands above."""
    return Chart(
        DECISION,
        name_file(decision.question.task, None, f"{decision.question.shots}-{DECISION}"),
        f"Decision: {format_question(decision)}",
        describe_answer(decision),
        specify_answer(decision, study.bounds(decision), room, titled=titled),
    )


def draw_group(group: GroupAnalysis, kinds: Collection[str] = KINDS, room: Room = WIDE) -> list[Chart]:
    """Draw one group's charts of these kinds; none where nothing was scored."""
    board = group.board
    charts = []
    if SCORES in kinds and any(row.in_domain is not None for row in board.rows):
        charts.append(draw_scores(group, room))
    charts += [draw_costs(group, cost, room) for cost in COST_AXES if cost in kinds and list_priced(board, cost)]
    if BARS in kinds and list_priced(board, "fit seconds"):
        charts.append(draw_bars(board, room))
    return charts
