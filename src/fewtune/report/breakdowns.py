"""Tables beside the leaderboard: by facet, gold label and pattern, of reference scorers and of checkpoints.

Owns what each table averages and how its columns are called. Does not know how a table looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, name_test_set
from fewtune.analysis.stability import Bounds
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.plurals import pluralise
from fewtune.records import Record

MOST_FACET_VALUES = 6
"""A facet with more values than this is not broken down: the table would not be read."""


@dataclass(frozen=True)
class BreakdownTable:
    """Means by two things, such as facet value and gold label: cells[variant][column], columns are (value, under)."""

    title: str
    columns: tuple[tuple[str, str], ...]
    cells: Mapping[str, tuple[Bounds | None, ...]]
    over: str = "trials"
    """What means are taken over."""


def break_down(study: StudyAnalysis) -> list[BreakdownTable]:
    """Make every table that a study's records have something for, group by group."""
    return [table for group in study.groups for table in break_down_group(group)]


def break_down_group(analysed: GroupAnalysis) -> list[BreakdownTable]:
    """Make every table that one group's records have something for."""
    group, tables = analysed.board, []
    members = [record for record in analysed.members if record.status == "done"]
    kinds = sorted({(b.test_set, b.facet) for record in members for b in record.breakdowns})
    for test_set, facet in kinds:
        title = f"{group.title} · {name_test_set(test_set)} by {facet}: accuracy"
        table = _average_breakdowns(members, group, test_set, facet, title)
        if table is not None:
            tables.append(table)
    tables += _list_patterns(analysed)
    tables += _average_references(members, group)
    tables += _average_checkpoints(members, group)
    return tables


def _average_breakdowns(
    members: Sequence[Record], group: LeaderboardGroup, test_set: str, facet: str, title: str
) -> BreakdownTable | None:
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for record in members:
        for part in record.breakdowns:
            if (part.test_set, part.facet) == (test_set, facet):
                cells = found.setdefault(record.trial.variant, {})
                cells.setdefault((part.value, f"gold: {part.gold}"), []).append(part.accuracy)
    columns = sorted({column for cells in found.values() for column in cells}, key=lambda c: (c[1], c[0]))
    if len({value for value, _ in columns}) > MOST_FACET_VALUES:
        return None
    return BreakdownTable(
        title=title,
        columns=tuple(columns),
        cells={
            row.variant: tuple(_average(found[row.variant].get(column)) for column in columns)
            for row in group.rows
            if row.variant in found
        },
    )


def _list_patterns(analysed: GroupAnalysis) -> list[BreakdownTable]:
    """Prompt sensitivity in domain: each variant under each pattern, and the largest mean less the smallest."""
    under, group = analysed.by_pattern, analysed.board
    cells: dict[str, tuple[Bounds | None, ...]] = {}
    for row in group.rows:
        found = [variants.get(row.variant) for variants in under.values()]
        means = [bounds.mean for bounds in found if bounds is not None]
        if means:
            cells[row.variant] = (*found, Bounds(max(means) - min(means), None, None))
    columns = (*((pattern, "in domain") for pattern in under), ("largest less smallest", "in domain"))
    title = f"{group.title} · by pattern: {group.metric}"
    return [BreakdownTable(title, columns, cells, over="draws, with 95 % intervals")] if cells else []


def _average_references(members: Sequence[Record], group: LeaderboardGroup) -> list[BreakdownTable]:
    """What a method's reference scorers scored (a teacher, the student before it was taught) beside the method itself.

    How often it answers as one of them is shown of the first alone: that is the teacher. All are of the rows that the
    reference scorers were asked of.
    """
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for record in members:
        references = record.notes.references
        beside = next((each.itself for each in references.values() if each.itself), record.metrics)
        scores = {**{name: each.metrics for name, each in references.items()}, "itself": beside}
        columns = {
            (name, test_set): metrics[group.metric]
            for name, of_sets in scores.items()
            for test_set, metrics in of_sets.items()
            if test_set in group.test_sets and group.metric in metrics
        }
        columns |= {
            (f"answers as {name}", test_set): share
            for name, shares in [(name, each.agreement) for name, each in references.items() if each.agreement][:1]
            for test_set, share in shares.items()
            if test_set in group.test_sets
        }
        for (name, test_set), value in columns.items() if references else ():
            cells = found.setdefault(record.trial.variant, {})
            cells.setdefault((name, name_test_set(test_set)), []).append(value)
    title = f"{group.title} · beside the method, the models it learns from: {group.metric}, and share of equal answers"
    notes = [each for record in members for each in record.notes.references.values()]
    most = max((count for each in notes for count in each.rows.values()), default=None)
    title += f", on {pluralise(most, 'row')} of a test set at most" if most is not None else ""
    return _make_table(title, found, group)


def _average_checkpoints(members: Sequence[Record], group: LeaderboardGroup) -> list[BreakdownTable]:
    """What choosing the epoch by out-of-domain rows would have scored: an oracle, whose choice no user can make."""
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    outside = [name for name in group.test_sets if name != IN_DOMAIN]
    for record in members:
        if not record.checkpoints or not outside or not record.metrics.keys() >= set(group.test_sets):
            continue
        best = max(record.checkpoints, key=lambda c: sum(c.metrics[name][group.metric] for name in outside))
        chosen = {"as reported": record.metrics, "last epoch": record.checkpoints[-1].metrics, "ORACLE": best.metrics}
        for name, scores in chosen.items():
            for test_set in group.test_sets:
                cells = found.setdefault(record.trial.variant, {})
                cells.setdefault((name, name_test_set(test_set)), []).append(scores[test_set][group.metric])
    title = (
        f"{group.title} · by choice of epoch: {group.metric}. "
        "ORACLE takes the epoch that is best on out-of-domain test rows: for analysis only, it is no result"
    )
    return _make_table(title, found, group)


def _make_table(
    title: str, found: dict[str, dict[tuple[str, str], list[float]]], group: LeaderboardGroup
) -> list[BreakdownTable]:
    """A table of means in the leaderboard's order, columns test set by test set; none where nothing was found."""
    columns = list(dict.fromkeys(column for cells in found.values() for column in cells))
    places = [name_test_set(name) for name in group.test_sets]
    columns.sort(key=lambda column: places.index(column[1]))
    cells = {
        row.variant: tuple(_average(found[row.variant].get(column)) for column in columns)
        for row in group.rows
        if row.variant in found
    }
    return [BreakdownTable(title, tuple(columns), cells)] if cells else []


def _average(values: Sequence[float] | None) -> Bounds | None:
    """The mean, without an interval."""
    return Bounds(sum(values) / len(values), None, None) if values else None
