"""The leaderboard in a terminal.

Owns which columns a width has room for. Does not know how a number came about (`analysis`) or how it is worded
(`wording`). Everything a user named is printed as text, never read as markup.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from statistics import fmean

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardRow, name_test_set
from fewtune.analysis.stability import Bounds
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.analysis.verdict import GroupVerdict
from fewtune.metrics.probabilities import AUROC
from fewtune.plurals import pluralise
from fewtune.records import Record
from fewtune.report.breakdowns import BreakdownTable, break_down
from fewtune.report.parted_table import Column, part_table
from fewtune.report.tuning import list_choices, list_penalties
from fewtune.report.wording import (
    MAJORITY,
    MAJORITY_NOTE,
    UNLABELLED_NOTE,
    format_count,
    format_decision,
    format_memory,
    format_milliseconds,
    format_missing,
    format_points,
    format_score,
    format_seconds,
    format_share,
    format_unlike_memory,
    list_models,
    list_verdict,
    mark_unlabelled,
)
from fewtune.system.terminal import make_message, make_text

WIDE = 96
"""Columns of terminal from which every cost stands in the leaderboard itself."""

WIDEST = 120
"""Columns of terminal from which AUROC stands there as well."""

INDENT = 1
"""Spaces before each line of a group."""

MOST_DRAWS_APART = 5
"""Draws that stand one by one under a mean; of more, the lowest and the highest."""


def show_leaderboard(console: Console, study: StudyAnalysis) -> None:
    """Print every group's leaderboard and verdict, then breakdowns, then what failed or was skipped and why."""
    if study.missing:
        console.print(make_message(format_missing(study.missing), style="bold"))
    show_models(console, study)
    told = False
    for group in study.groups:
        console.print()
        console.print(make_text(group.board.title, style="bold"))
        if any(row.in_domain is not None for row in group.board.rows):
            _show_scores(console, group, "" if told else f" {MAJORITY_NOTE}.")
            told = True
        _show_verdict(console, study.decision(group.board), group.verdict)
    for breakdown in break_down(study):
        _show_breakdown(console, breakdown, study.unlabelled)
    _show_lines(
        console, "Tuning: settings chosen by cross-validation on the support alone", list_choices(study.records)
    )
    _show_lines(console, "Penalties that regressions chose by rows of the support", list_penalties(study.records))
    _show_unfinished(console, study.records)


def show_models(console: Console, study: StudyAnalysis) -> None:
    """Print what each model is beyond its name, where records say."""
    for line in list_models(study.models):
        console.print(make_text(line, style="dim"))


def list_unfinished(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    """List why trials failed or did not run, each reason once: (where, its kind and how many trials, message)."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if record.failure is not None:
            axes = record.trial
            where = " · ".join([axes.variant, axes.task, axes.model or "no language model"])
            reasons.setdefault((record.failure.kind.replace("_", " "), record.failure.message), []).append(where)
    return [
        (
            "; ".join(dict.fromkeys(places)),
            f"{kind} ({pluralise(len(places), 'trial')})" if len(places) > 1 else kind,
            message,
        )
        for (kind, message), places in reasons.items()
    ]


def _show_scores(console: Console, analysis: GroupAnalysis, told: str) -> None:
    group, wide = analysis.board, console.width >= WIDE
    found = {variant: _fill_auroc(analysis, variant) for variant in analysis.stability}
    ranked = found if console.width >= WIDEST and any(found.values()) else {}
    split = len(group.test_sets) > 2
    columns = [
        Column(
            make_text(f"{name_test_set(name)}\n{MAJORITY}\n{format_score(group.majority.get(name))}"),
            [_fill_score(row, name, each_draw=name == IN_DOMAIN) for row in group.rows],
        )
        for name in group.test_sets
    ]
    above = [make_text(format_points(row.above_majority)) for row in group.rows]
    columns.append(Column(make_text(f"over {MAJORITY}\npoints"), above))
    if ranked:
        cells = [ranked.get(row.variant) or make_text(format_score(None)) for row in group.rows]
        columns.append(Column(make_text("auroc"), cells))
    if not split:
        columns += _list_costs(group.rows, wide)
    _show_parts(console, Column(make_text("method"), [_name_row(row) for row in group.rows]), columns)
    if split:
        done = [row for row in group.rows if row.done]
        names = [make_text(mark_unlabelled(row.variant, row.unlabelled)) for row in done]
        console.print()
        _show_parts(console, Column(make_text("cost"), names), _list_costs(done, wide=True))
    note = f"{group.metric}, mean over draws; each draw below it.{told}"
    if not wide and not split:
        note += f" {WIDE} columns have room for prediction time and parameters."
    if ranked and len(group.test_sets) > 1:
        note += " AUROC in domain; below it the mean out of domain."
    if any(row.unlabelled for row in group.rows):
        note += f" {UNLABELLED_NOTE}."
    unlike = format_unlike_memory(group.rows)
    note += f" {unlike}" if unlike else ""
    console.print(Padding(make_text(note, style="dim"), (0, 0, 0, 1)))


def _show_parts(console: Console, names: Column, columns: Sequence[Column]) -> None:
    """Print a table, in as many parts as the terminal has no room for at once."""
    for place, table in enumerate(part_table(names, columns, console.width - INDENT)):
        if place:
            console.print()
        console.print(Padding(table, (0, 0, 0, INDENT)))


def _list_costs(rows: Sequence[LeaderboardRow], wide: bool) -> list[Column]:
    cells = [_fill_costs(row, wide) for row in rows]
    return [
        Column(make_text(heading), [each[place] for each in cells]) for place, heading in enumerate(_name_costs(wide))
    ]


def _name_costs(wide: bool) -> list[str]:
    return ["fit", "predict\nms/row", "peak\nmemory", "trained"] if wide else ["fit", "peak\nmemory"]


def _fill_costs(row: LeaderboardRow, wide: bool) -> list[Text]:
    fit, memory = format_seconds(row.fit_seconds), format_memory(row.memory_bytes)
    if not wide:
        return [make_text(fit), make_text(memory)]
    predict, trained = format_milliseconds(row.predict_seconds_per_row), format_count(row.trainable_parameters)
    return [make_text(fit), make_text(predict), make_text(memory), make_text(trained)]


def _name_row(row: LeaderboardRow) -> Text:
    name = make_text(mark_unlabelled(row.variant, row.unlabelled))
    counts = {"failed": row.failed, "skipped": row.skipped, "stopped": row.stopped}
    lost = [f"{count} {word}" for word, count in counts.items() if count]
    if row.collapsed_share:
        lost.append(f"{format_share(row.collapsed_share)} collapsed")
    return name.append(f"\n{', '.join(lost)}", style="dim") if lost else name


def _fill_score(row: LeaderboardRow, test_set: str, each_draw: bool) -> Text:
    score = row.scores[test_set]
    text = make_text(format_score(score.mean))
    if each_draw and len(score.draws) > 1:
        values = [draw.value for draw in score.draws]
        each = " ".join(map(_format_briefly, values))
        if len(values) > MOST_DRAWS_APART:
            each = f"{_format_briefly(min(values))} to {_format_briefly(max(values))}, {len(values)} draws"
        text.append(f"\n{each}", style="dim")
    elif each_draw and score.draws:
        text.append("\n1 draw", style="dim")
    return text


def _fill_auroc(analysis: GroupAnalysis, variant: str) -> Text | None:
    """AUROC in domain, and below it the mean out of domain; None where no scores were kept."""
    found = {name: figures.get(AUROC) for name, figures in analysis.stability[variant].without_threshold.items()}
    inside = found.pop(IN_DOMAIN, None)
    if inside is None:
        return None
    outside = [value for value in found.values() if value is not None]
    text = make_text(format_score(inside))
    return text.append(f"\n{_format_briefly(fmean(outside))}", style="dim") if outside else text


def _format_briefly(value: float) -> str:
    """Format a score to two places, without the nought before its point."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def _show_verdict(console: Console, decision: Decision, verdict: GroupVerdict) -> None:
    lines = [Text.assemble(("Verdict  ", "bold"), make_message(format_decision(decision)))]
    lines += [make_message(f"- {line}") for line in list_verdict(decision, verdict)]
    for line in lines:
        console.print(Padding(line, (0, 0, 0, 1)))


def _show_breakdown(console: Console, breakdown: BreakdownTable, unlabelled: Collection[str]) -> None:
    console.print()
    console.print(make_text(f"{breakdown.title}, mean over {breakdown.over}", style="bold"))
    # One small table a gold label keeps three heuristics readable at 80 columns.
    for under, columns in groupby(enumerate(breakdown.columns), key=lambda item: item[1][1]):
        names = [make_text(mark_unlabelled(variant, variant in unlabelled)) for variant in breakdown.cells]
        chosen = [
            Column(make_text(value.replace("_", " ")), [_fill_cell(cells[index]) for cells in breakdown.cells.values()])
            for index, (value, _under) in columns
        ]
        _show_parts(console, Column(make_text(under), names), chosen)


def _fill_cell(cell: Bounds | None) -> Text:
    """A mean, and below it its interval where it has one."""
    if cell is None:
        return make_text(format_score(None))
    text = make_text(format_score(cell.mean))
    if cell.low is not None and cell.high is not None:
        text.append(f"\n{_format_briefly(cell.low)} to {_format_briefly(cell.high)}", style="dim")
    return text


def _show_lines(console: Console, heading: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print()
    console.print(make_text(heading, style="bold"))
    for line in lines:
        console.print(Padding(make_message(line), (0, 0, 0, 1)))


def _show_unfinished(console: Console, records: Sequence[Record]) -> None:
    unfinished = list_unfinished(records)
    if not unfinished:
        return
    console.print()
    console.print(make_text("Trials that failed or did not run", style="bold"))
    for reason in unfinished:
        console.print(Padding(make_message(": ".join(reason)), (0, 0, 0, 1)))
