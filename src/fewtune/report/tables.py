"""The leaderboard in a terminal, and the wording of its quantities.

Owns which columns a width has room for, and how seconds, bytes and counts are written. Does not know how a
number came about (`analysis`). Everything a user named is printed as text, never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fewtune.analysis.audit.finding import word_number
from fewtune.analysis.comparison import Comparison, word_comparison
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, LeaderboardRow, name_test_set
from fewtune.analysis.statistics import LEVEL
from fewtune.analysis.study import StudyAnalysis
from fewtune.analysis.verdict import GroupVerdict
from fewtune.records import Record
from fewtune.report.breakdowns import BreakdownTable, break_down
from fewtune.report.tuning import list_choices
from fewtune.terminal import make_text

WIDE = 96
"""Columns of terminal from which every cost stands in the leaderboard itself."""

MOST_DRAWS_APART = 5
"""Draws that stand one by one under a mean; of more, the lowest and the highest."""

MOST_RIVALS = 3
"""Names after which a verdict's head counts the rivals instead of naming them."""

UNKNOWN = "–"


def show_leaderboard(console: Console, study: StudyAnalysis) -> None:
    """Print every group's leaderboard and verdict, then breakdowns, then what failed or was skipped and why."""
    if study.missing:
        console.print(make_text(word_missing(study.missing), style="bold"))
    for group in study.groups:
        console.print()
        console.print(make_text(group.board.title, style="bold"))
        if any(row.in_domain is not None for row in group.board.rows):
            _show_scores(console, group.board)
        _show_verdict(console, group.verdict)
    for breakdown in break_down(study):
        _show_breakdown(console, breakdown)
    _show_tuning(console, list_choices(study.records))
    _show_unfinished(console, study.records)


def word_missing(missing: Mapping[str, int]) -> str:
    """Say that a study is unfinished, and which of its trials have not run."""
    each = ", ".join(f"{variant} ({count})" for variant, count in missing.items())
    count = sum(missing.values())
    return f"Unfinished: {count} trial{'s have' if count != 1 else ' has'} not run yet: {each}. `fewtune run` goes on."


def list_unfinished(records: Iterable[Record]) -> list[tuple[str, str, str, int]]:
    """List why trials failed or were skipped: (where, status or kind, message, trials), equal ones as one."""
    reasons: dict[tuple[str, str, str], int] = {}
    for record in records:
        if record.failure is not None:
            axes = record.trial
            where = " · ".join([axes.variant, axes.task, axes.model or "no language model"])
            key = (where, record.failure.kind.replace("_", " "), record.failure.message)
            reasons[key] = reasons.get(key, 0) + 1
    return [(*key, count) for key, count in reasons.items()]


def word_score(value: float | None) -> str:
    """Word a score to three places."""
    return UNKNOWN if value is None else f"{value:z.3f}"


def word_points(value: float | None) -> str:
    """Word a difference of scores in points (hundredths), signed."""
    return UNKNOWN if value is None else f"{100 * value:+z.1f}"


def word_share(value: float | None) -> str:
    """Word a share as per cent."""
    return UNKNOWN if value is None else f"{100 * value:.0f}%"


def word_seconds(seconds: float | None) -> str:
    """Word seconds with the unit that suits their size."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.01:
        return "<0.01 s"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"


def word_milliseconds(seconds: float | None) -> str:
    """Word seconds as milliseconds, without the unit."""
    if seconds is None:
        return UNKNOWN
    milliseconds = 1000 * seconds
    if milliseconds < 0.01:
        return "<0.01"
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def word_bytes(size: int | None) -> str:
    """Word bytes as MiB or GiB."""
    if size is None:
        return UNKNOWN
    mebibytes = size / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.2f} GiB"


def word_count(count: int | None) -> str:
    """Word a number of parameters with k, M or B."""
    if count is None:
        return UNKNOWN
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if float(f"{count / size:.3g}") >= 1 and count >= 1000:
            return f"{count / size:.3g}{letter}"
    return str(count)


def word_standing(against: Comparison | None) -> str:
    """Word how the second of a comparison stands to the first: 'worse, -5.9 [-11.2, -0.6]', in points."""
    if against is None or against.point is None or against.low is None or against.high is None:
        return UNKNOWN
    answer = {"better": "worse", "worse": "better"}.get(against.answer, against.answer)
    return f"{answer}, {-100 * against.point:+z.1f} [{-100 * against.high:z.1f}, {-100 * against.low:z.1f}]"


def compare_with_majority(group: LeaderboardGroup, row: LeaderboardRow) -> float | None:
    """Subtract the majority from a row's in-domain mean."""
    majority = group.majority.get(IN_DOMAIN)
    return None if row.in_domain is None or majority is None else row.in_domain - majority


def _show_scores(console: Console, group: LeaderboardGroup) -> None:
    wide = console.width >= WIDE
    split = len(group.test_sets) > 2
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("method", overflow="fold", min_width=12)
    for name in group.test_sets:
        majority = group.majority.get(name)
        table.add_column(
            make_text(f"{name_test_set(name)}\nmajority {word_score(majority)}"), justify="right", overflow="fold"
        )
    table.add_column(make_text("vs majority\npoints"), justify="right")
    costs = [*_name_costs(wide)]
    if not split:
        for heading in costs:
            table.add_column(make_text(heading), justify="right")
    for row in group.rows:
        cells = [_name_row(row)]
        cells += [_fill_score(row, name, each_draw=name == IN_DOMAIN) for name in group.test_sets]
        cells.append(make_text(word_points(compare_with_majority(group, row))))
        table.add_row(*cells, *([] if split else _fill_costs(row, wide)))
    console.print(Padding(table, (0, 0, 0, 1)))
    if split:
        cost = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        cost.add_column("cost", overflow="fold", min_width=8)
        for heading in _name_costs(wide=True):
            cost.add_column(make_text(heading), justify="right")
        for row in group.rows:
            if row.done:
                cost.add_row(make_text(row.variant), *_fill_costs(row, wide=True))
        console.print()
        console.print(Padding(cost, (0, 0, 0, 1)))
    note = f"{group.metric}, mean over draws; each draw below it."
    if not wide and not split:
        note += f" {WIDE} columns have room for prediction time and parameters."
    console.print(Padding(make_text(note, style="dim"), (0, 0, 0, 1)))


def _name_costs(wide: bool) -> list[str]:
    return ["fit", "predict\nms/row", "peak\nmemory", "trained"] if wide else ["fit", "peak\nmemory"]


def _fill_costs(row: LeaderboardRow, wide: bool) -> list[Text]:
    fit, memory = word_seconds(row.fit_seconds), word_bytes(row.memory_bytes)
    if not wide:
        return [make_text(fit), make_text(memory)]
    predict, trained = word_milliseconds(row.predict_seconds_per_row), word_count(row.trainable_parameters)
    return [make_text(fit), make_text(predict), make_text(memory), make_text(trained)]


def _name_row(row: LeaderboardRow) -> Text:
    name = make_text(row.variant)
    lost = [f"{row.failed} failed"] * bool(row.failed) + [f"{row.skipped} skipped"] * bool(row.skipped)
    if row.collapsed_share:
        lost.append(f"{word_share(row.collapsed_share)} collapsed")
    return name.append(f"\n{', '.join(lost)}", style="dim") if lost else name


def _fill_score(row: LeaderboardRow, test_set: str, each_draw: bool) -> Text:
    score = row.scores[test_set]
    text = make_text(word_score(score.mean))
    if each_draw and len(score.draws) > 1:
        values = [draw.value for draw in score.draws]
        each = " ".join(map(_word_briefly, values))
        if len(values) > MOST_DRAWS_APART:
            each = f"{_word_briefly(min(values))} to {_word_briefly(max(values))}, {len(values)} draws"
        text.append(f"\n{each}", style="dim")
    elif each_draw and score.draws:
        text.append("\n1 draw", style="dim")
    return text


def _word_briefly(value: float) -> str:
    """Word a score to two places, without the nought before its point."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def _show_verdict(console: Console, verdict: GroupVerdict) -> None:
    lines = [Text.assemble(("Verdict  ", "bold"), make_text(head_verdict(verdict)))]
    lines += [make_text(f"- {line}") for line in list_comparisons(verdict)]
    for line in lines:
        console.print(Padding(line, (0, 0, 0, 1)))


def head_verdict(verdict: GroupVerdict) -> str:
    """Word who leads, how far that is told, and what was not scored."""
    missing = [f"{count} {word}" for count, word in ((verdict.failed, "failed"), (verdict.skipped, "skipped")) if count]
    left_out = f" Not scored: {', '.join(missing)}." if missing else ""
    if verdict.leader is None:
        return f"No trial was scored, so nothing leads.{left_out}"
    standing = _word_standing(verdict)
    return f"{verdict.leader} leads ({word_score(verdict.leader_score)} {verdict.metric}){standing}.{left_out}"


def _word_standing(verdict: GroupVerdict) -> str:
    """Word what the leader is credibly better than: the commonest label first, for without that no order counts."""
    majority = verdict.against_majority
    if majority is not None and majority.answer != "better":
        draws = word_number(majority.draws, "draw")
        return f", but over {draws} not credibly above always answering the commonest label"
    rivals = [other for other, comparison in verdict.comparisons.items() if comparison.answer != "better"]
    if rivals:
        return f", but not credibly better than {_list_briefly(rivals)}"
    return ", credibly better than every other" if verdict.comparisons else ""


def _list_briefly(names: Sequence[str]) -> str:
    """List the first names and count the others: 'a', 'a and b', 'a, b and 4 more'."""
    shown = list(names)
    if len(names) > MOST_RIVALS:
        shown[MOST_RIVALS - 1 :] = [f"{len(names) - MOST_RIVALS + 1} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def list_comparisons(verdict: GroupVerdict) -> list[str]:
    """Word the leader's comparisons, the majority's first, each with its p where draws are enough for one to decide."""
    lines = []
    # The least that Holm's rule can leave of an exact test over so many draws.
    count = sum(comparison.p is not None for comparison in verdict.comparisons.values())
    if verdict.against_majority is not None:
        lines.append(word_comparison("always answering the commonest label", verdict.against_majority))
    for other, comparison in verdict.comparisons.items():
        decides = comparison.p is not None and count * 2.0 ** (1 - comparison.draws) <= LEVEL
        lines.append(word_comparison(other, comparison) + (f", p = {comparison.p:.3f}" if decides else ""))
    return lines


def _show_breakdown(console: Console, breakdown: BreakdownTable) -> None:
    console.print()
    console.print(make_text(breakdown.title, style="bold"))
    # One small table a gold label keeps three heuristics readable at 80 columns.
    for under, columns in groupby(enumerate(breakdown.columns), key=lambda item: item[1][1]):
        chosen = list(columns)
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        table.add_column(make_text(under), overflow="fold", min_width=24)
        for _, (value, _under) in chosen:
            table.add_column(make_text(value.replace("_", " ")), justify="right", overflow="fold")
        for variant, cells in breakdown.cells.items():
            table.add_row(make_text(variant), *(make_text(word_score(cells[index])) for index, _ in chosen))
        console.print(Padding(table, (0, 0, 0, 1)))


def _show_tuning(console: Console, choices: Sequence[str]) -> None:
    if not choices:
        return
    console.print()
    console.print(make_text("Tuning: settings chosen by cross-validation on the support alone", style="bold"))
    for line in choices:
        console.print(Padding(make_text(line), (0, 0, 0, 1)))


def _show_unfinished(console: Console, records: Sequence[Record]) -> None:
    unfinished = list_unfinished(records)
    if not unfinished:
        return
    console.print()
    console.print(make_text("Failed and skipped trials", style="bold"))
    for where, kind, message, count in unfinished:
        times = f" ({count} trials)" if count > 1 else ""
        console.print(Padding(make_text(f"{where}: {kind}{times}: {message}"), (0, 0, 0, 1)))
