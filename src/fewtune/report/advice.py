"""Shows decisions in a terminal, each with its evidence and a table of the methods.

Owns their layout. Does not know the rule (`analysis.decision`) or the sentences (`wording`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from fewtune.analysis.decision import Contender, Decision
from fewtune.report.wording import (
    UNLABELLED_NOTE,
    explain_decision,
    format_bound,
    format_decision,
    format_expected,
    format_question,
    format_score,
    format_seconds,
    format_unsure_memory,
    mark_unlabelled,
)
from fewtune.system.terminal import make_message, make_text


def show_decisions(console: Console, decisions: Sequence[Decision], *, memory_limited: bool = False) -> None:
    """Print every decision with its evidence; `memory_limited` where a limit of memory was asked."""
    for decision in decisions:
        console.print()
        console.print(make_text(format_question(decision), style="bold"))
        console.print(Padding(make_message(format_decision(decision), style="bold"), (0, 0, 0, 1)))
        lines = [*explain_decision(decision), *(format_unsure_memory(decision) if memory_limited else [])]
        for line in lines:
            console.print(Padding(make_message(f"- {line}"), (0, 0, 0, 1)))
        console.print(Padding(_tabulate(decision), (1, 0, 0, 1)))


def _tabulate(decision: Decision) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("method", overflow="fold")
    table.add_column(make_text(decision.question.metric), justify="right")
    table.add_column(make_text("expected\nloss, points"), justify="right")
    table.add_column(make_text("at most\n(95 %)"), justify="right")
    table.add_column(make_text("fit and\nqueries"), justify="right")
    table.add_column("", overflow="fold")
    for each in decision.contenders:
        cells = (
            format_score(each.score),
            format_expected(each),
            format_bound(each),
            format_seconds(each.seconds),
            _format_place(decision, each),
        )
        table.add_row(make_text(mark_unlabelled(each.name, each.unlabelled)), *map(make_text, cells))
    if any(each.unlabelled for each in decision.contenders):
        table.caption, table.caption_justify = make_text(UNLABELLED_NOTE, style="dim"), "left"
    return table


def _format_place(decision: Decision, contender: Contender) -> str:
    """Format why a method is chosen or cannot be, in a few words."""
    if contender.excluded is not None:
        return f"not eligible: {contender.excluded}"
    chosen = decision.choice is not None and contender.name == decision.choice.name
    marks = ["chosen" if decision.settled else "best bet"] * chosen + ["highest mean"] * (
        contender.name == decision.best
    )
    return "; ".join(marks)
