"""Audits anyone's table of results, one run a row.

Owns the rules that a table alone can break. Does not know how the file is read (`runs`) or fewtune's records.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from fewtune.analysis.audit.audit import order_findings
from fewtune.analysis.audit.finding import Finding
from fewtune.analysis.audit.runs import (
    ACCURACY,
    F1,
    MCC,
    CellReading,
    Run,
    RunTable,
    find_kind,
    is_bounded,
    kind_of,
    names_outside,
    plain_name,
    read_runs,
)
from fewtune.errors import RecordError
from fewtune.plurals import pluralise

FEWEST_DIGITS, MANY_RUNS = 4, 4
"""Digits behind the point, of a share, from which equal scores of runs are no chance: 93.5 % has three, which will do
where so many runs are all equal."""
FEWEST_SCORES = 3
"""Of two runs alone, so many equal scores are no chance; of one set of answers all metrics are one score."""
MOST_NAMES = 20
"""Methods that a finding names, before it counts the rest."""
DETERMINISTIC = re.compile(
    r"^(?:majority(?:_(?:class|label|baseline|classifier))?|chance(?:_level)?)$|^tf_?idf|^zero_?shot"
    r"|^(?:most_)?(?:frequent|common(?:est)?)(?:_|$)"
)
"""Names of methods that may repeat themselves: nothing in them is random, or nobody calls them a result."""
AT_RANDOM = re.compile(r"random(?:_(?:baseline|guess(?:ing|er)?|classifier|label|chance|prediction)s?)*")

Key = TypeVar("Key")
_Results = dict[tuple[str, ...], list[tuple[tuple[str, float], ...]]]
"""A method's scores by seed."""


@dataclass(frozen=True)
class TableAudit:
    """What was found by how many rules, and what each rule that could not be asked needs."""

    findings: list[Finding]
    asked: int
    unasked: dict[str, str]
    reading: CellReading


def audit_table(path: Path, majority: float | None = None, columns: Mapping[str, str] | None = None) -> TableAudit:
    """Audit a CSV file with a row a run; `majority` is the majority class's share, where no column tells it.

    `columns` says which column is read as what (`score`, `method`, `shots`, `seed`), where its name does not. Majority
    may be a percentage, and columns may be parted by semicolons or tabs; the path `-` is standard input. Raises
    RecordError where the file cannot be read, names no method or score, or the majority is no share.
    """
    if majority is not None and (not 0 < majority < 100 or majority == 1):
        raise RecordError(f"--majority is {majority:g}; give a share such as 0.691, or a percentage such as 69.1.")
    table = read_runs(path, majority, columns)
    unasked = _list_unasked(table)
    groups = _split(table.rows, lambda row: row.group).values()
    found = [finding for rows in groups for finding in _find_no_scores(rows, table)]
    table = _drop_no_scores(table)
    for rule in RULES:
        for rows in _split(table.rows, lambda row: row.group).values():
            found += rule(rows, table)
    return TableAudit(order_findings(_tell_once(found)), len(RULES) + 1 - len(unasked), unasked, table.reading)


def _tell_once(found: Sequence[Finding]) -> list[Finding]:
    """Findings of one rule in several cells as one, which names the cells and says of each what is new in it."""
    told = []
    for alike in _group(found, lambda finding: (finding.rule, finding.severity, finding.remedy)):
        cells = list(dict.fromkeys(finding.where for finding in alike))
        reasons: dict[str, list[str]] = defaultdict(list)
        for finding in alike:
            reasons[finding.reason].append(finding.where)
        if len(cells) == 1:
            told += alike
            continue
        each = [f"{_list(places)}: {reason}" for reason, places in reasons.items()]
        reason = alike[0].reason if len(reasons) == 1 else _list(each, "; ")
        where = f"{pluralise(len(cells), 'cell')}: {_list(cells)}"
        told.append(replace(alike[0], where=where, reason=reason))
    return told


def _group(found: Iterable[Finding], key: Callable[[Finding], Key]) -> list[list[Finding]]:
    parts: dict[Key, list[Finding]] = defaultdict(list)
    for finding in found:
        parts[key(finding)].append(finding)
    return list(parts.values())


def _find_no_scores(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    """Scores that are not finite, or that no metric of that name can have."""
    each = []
    for method, runs in _split(rows, lambda row: row.method).items():
        for column in dict.fromkeys(name for row in runs for name in row.scores):
            bad = [row.scores[column] for row in runs if column in row.scores and not _can_be(column, row, table)]
            if bad:
                values = _list(sorted({f"{value:g}" for value in bad}))
                each.append(f"{column} of {method} is {values} in {pluralise(len(bad), 'row')}")
    if each:
        yield Finding(
            rule="scores that are no numbers",
            severity="error",
            where=_name(rows),
            reason=f"not finite, or outside what such a score can be: {_list(each, '; ')}",
            remedy="Find what made them, such as a loss that overflowed or figures in a wrong column. The other rules "
            "leave them out.",
        )


def _drop_no_scores(table: RunTable) -> RunTable:
    rows = [
        replace(row, scores={name: score for name, score in row.scores.items() if _can_be(name, row, table)})
        for row in table.rows
    ]
    return replace(table, rows=[row for row in rows if row.scores])


def _can_be(column: str, row: Run, table: RunTable) -> bool:
    """Whether a score is finite and, as a share or a percentage, within its metric's bounds."""
    kind = find_kind(column, row)
    whole = 100 if (column, kind) in table.percentages else 1
    lowest = -whole if kind in MCC else 0 if is_bounded(kind) else -math.inf
    highest = whole if is_bounded(kind) else math.inf
    return math.isfinite(row.scores[column]) and lowest <= row.scores[column] <= highest


def _find_identical_runs(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    copied = []
    for method, runs in _split(rows, lambda row: row.method).items():
        results = _list_runs(runs, table)
        distinct = Counter(tuple(result) for result in results)
        # A pair of equal scores may be chance on few test rows; half of all runs, or a pair of several scores, is none.
        several = any(_count_scores(result) >= FEWEST_SCORES for result, times in distinct.items() if times > 1)
        repeated = several or (len(results) > 2 and 2 * len(distinct) <= len(results))
        many = len(distinct) == 1 and len(results) >= MANY_RUNS
        if not _is_deterministic(method) and repeated and _has_digits(runs, table, many):
            copied.append(
                f"{method}'s {pluralise(len(results), 'run')} have {pluralise(len(distinct), 'distinct result')}"
            )
    if copied:
        yield Finding(
            rule="identical runs",
            severity="error",
            where=_name(rows),
            reason=f"runs repeat others of their method to the last digit: {_list(copied, '; ')}",
            remedy="Count each distinct run once. Find what sets the seed again after it was set, or whether they give "
            "every row one answer, and run anew.",
        )


def _count_scores(result: Iterable[tuple[tuple[str, float], ...]]) -> int:
    """How many scores of a run tell something that the others of it do not."""
    return sum(
        len({("answers", names_outside(name)) if is_bounded(kind_of(plain_name(name))) else name for name, _ in row})
        for row in result
    )


def _list_runs(rows: Sequence[Run], table: RunTable) -> list[list[tuple[tuple[str, float], ...]]]:
    """The results of each run of a method: rows of one seed, such as its epochs, are one run, where seeds differ."""
    return [_list_results(run) for run in _part_runs(rows, table)]


def _part_runs(rows: Sequence[Run], table: RunTable) -> list[list[Run]]:
    by_seed = _split(rows, lambda row: row.seed)
    if table.seeds and len(by_seed) > 1:
        return list(by_seed.values())
    return [list(rows)] if _is_trace(rows) else [[row] for row in rows]


def _is_trace(rows: Sequence[Run]) -> bool:
    """Whether rows are of one run, each of another epoch."""
    return len({row.epoch for row in rows} - {""}) == len(rows)


def _find_settings_without_effect(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    """Methods whose scores are equal on every seed that they share, two at least."""
    if not table.seeds:
        return
    by_method = {
        method: runs for method, runs in _split(rows, lambda row: row.method).items() if not _is_deterministic(method)
    }
    common = set.intersection(*({run.seed for run in runs} for runs in by_method.values())) if by_method else set()
    results = {
        method: {seed: _list_results(part) for seed, part in _split(runs, lambda row: row.seed).items()}
        for method, runs in by_method.items()
        if _has_digits(runs, table, len(common) >= MANY_RUNS)
    }
    copied = [_list(part) for part in _group_alike(results) if len(part) > 1]
    if copied:
        yield Finding(
            rule="settings without effect",
            severity="error",
            where=_name(rows),
            reason=f"scores are equal to the last digit on every seed that methods share: {_list(copied, '; ')}",
            remedy="Find out whether what tells them apart was applied at all, or whether they give every row one "
            "answer; do not report them as several methods.",
        )


def _group_alike(results: Mapping[str, _Results]) -> list[list[str]]:
    """Methods by what they share: each part's score alike, each with each."""
    parts: list[list[str]] = []
    distinct: list[list[_Results]] = []
    holding: dict[tuple[Any, ...], dict[int, None]] = defaultdict(dict)
    """The parts that have a result, by seed and scores: only those can hold a method that has it too."""
    for method, scores in results.items():
        results_of = [(seed, *found) for seed, found in scores.items()]
        shared = Counter(part for result in results_of for part in holding[result])
        near = sorted(part for part, times in shared.items() if times > 1)
        home = next((n for n in near if all(_score_alike(scores, other) for other in distinct[n])), len(parts))
        if home == len(parts):
            parts.append([])
            distinct.append([])
        parts[home].append(method)
        if scores not in distinct[home]:
            distinct[home].append(scores)
        for result in results_of:
            holding[result][home] = None
    return parts


def _score_alike(first: _Results, second: _Results) -> bool:
    shared = first.keys() & second.keys()
    return len(shared) > 1 and all(first[seed] == second[seed] for seed in shared)


def _list_results(rows: Iterable[Run]) -> list[tuple[tuple[str, float], ...]]:
    return sorted(tuple(sorted(row.scores.items())) for row in rows)


def _find_low_scores(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    low: dict[str, list[str]] = defaultdict(list)
    for column in table.scores:
        for method, runs in _split(rows, lambda row: row.method).items():
            # Of a run's epochs the best counts.
            parts = [
                part
                for run in _part_runs(runs, table)
                for part in ([run] if _is_trace(run) else [[row] for row in run])
            ]
            scored = [
                [(row.scores[column], floor) for row in part if (floor := _find_floor(column, row, table)) is not None]
                for part in parts
            ]
            pairs = [max(each) for each in scored if each]
            if not pairs or _is_deterministic(method):
                continue
            mean, known = (fmean(values) for values in zip(*pairs, strict=True))
            if mean <= known + 1e-9:
                low[f"{column} {known:zg}"].append(f"{method} {mean:zg}")
    if low:
        each = "; ".join(f"{known}: {_list(methods)}" for known, methods in low.items())
        yield Finding(
            rule="at the majority",
            severity="error",
            where=_name(rows),
            reason=f"mean scores not above always answering the majority class, {each}",
            remedy="Nothing can be concluded from the order of such scores.",
        )


def _find_floor(column: str, row: Run, table: RunTable) -> float | None:
    """What always answering the majority class scores, in the column's unit; None where that is not known."""
    kind = find_kind(column, row)
    if column not in row.scores or kind not in MCC + ACCURACY:
        return None
    if kind in MCC:
        return 0.0
    # The majority is that of the rows in domain, and of those that were tested on.
    named = [name for name in (plain_name(column), row.metric, row.test_set) if name]
    inside = any(name in table.inside for name in named) if table.inside else not any(map(names_outside, named))
    fitted_on = any({"train", "training"} & set(name.split("_")) for name in named)
    if row.majority is None or not inside or fitted_on:
        return None
    share = row.majority / 100 if row.majority > 1 else row.majority
    return 100 * share if (column, kind) in table.percentages else share


def _find_single_runs(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    methods = _split(rows, lambda row: row.method)
    single = [
        name
        for name, runs in methods.items()
        if not _is_deterministic(name)
        and (len(runs) == 1 or (table.seeds and len({row.seed for row in runs}) == 1))
        and not any(row.spreads for row in runs)  # each of which rests on several
    ]
    if single and len(methods) > 1:
        yield Finding(
            rule="single draw",
            severity="warning",
            where=_name(rows),
            reason=f"{len(single)} of {pluralise(len(methods), 'method')} rest on one seed ({_list(single)}): "
            "differences smaller than the spread of runs are no findings",
            remedy="Run several seeds and report intervals; or show the spread of one method at least.",
        )


def _find_unlike_places(rows: Sequence[Run], table: RunTable) -> Iterator[Finding]:
    if not table.costs or len({row.method for row in rows}) == 1:
        return
    for place in table.places:
        values = sorted({row.places[place] for row in rows if place in row.places})
        if len(values) > 1:
            yield Finding(
                rule="unlike machines",
                severity="warning",
                where=_name(rows),
                reason=f"{' and '.join(table.costs)} stand side by side from {place} {_list(values)}",
                remedy="Compare scores alone, or measure on one machine with one set of versions.",
            )


RULES = (_find_identical_runs, _find_settings_without_effect, _find_low_scores, _find_single_runs, _find_unlike_places)
"""What a table alone can break, beside scores that are no numbers: those the others leave out."""


def _list_unasked(table: RunTable) -> dict[str, str]:
    """The rules that no row can break, each with what the table lacks for it."""
    scores = [(column, row) for row in table.rows for column in row.scores]
    known = any(_find_floor(column, row, table) is not None for column, row in scores)
    could = known or any(_find_floor(column, replace(row, majority=0.5), table) is not None for column, row in scores)
    lacks = {
        "settings without effect": [] if table.seeds else ["seed"],
        "at the majority": [] if known else ["majority (or --majority)"] if could else ["accuracy or mcc"],
        "unlike machines": [*([] if table.places else ["gpu"]), *([] if table.costs else ["seconds"])],
    }
    return {rule: " and a column ".join(columns) for rule, columns in lacks.items() if columns}


def _has_digits(rows: Iterable[Run], table: RunTable, many: bool) -> bool:
    """Whether scores are too exact to be equal by chance; `many` runs may be equal to fewer digits.

    All of a run's are compared, so that one kind will do. What follows from answers of which an accuracy is there too
    has digits that say nothing.
    """
    scores = []
    for row in rows:
        for column, score in row.scores.items():
            kind = find_kind(column, row)
            # What an unknown metric is in is told by each score, and a loss is no share.
            unknown = not is_bounded(kind) and "loss" not in kind and abs(score) > 1
            scores.append((kind, score / 100 if unknown or (column, kind) in table.percentages else score))
    told = [score for kind, score in scores if kind not in F1 + MCC] or [score for _, score in scores]
    fewest = FEWEST_DIGITS - 1 if many else FEWEST_DIGITS
    return any(round(share, fewest - 1) != round(share, fewest + 3) for share in told)


def _is_deterministic(method: str) -> bool:
    name = plain_name(method)
    return DETERMINISTIC.search(name) is not None or AT_RANDOM.fullmatch(name) is not None


def _split(rows: Iterable[Run], key: Callable[[Run], Key]) -> dict[Key, list[Run]]:
    parts: dict[Key, list[Run]] = defaultdict(list)
    for row in rows:
        parts[key(row)].append(row)
    return parts


def _name(rows: Sequence[Run]) -> str:
    return " · ".join(filter(None, rows[0].group)) or "the table"


def _list(names: Sequence[str], separator: str = ", ") -> str:
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return separator.join([*names[:MOST_NAMES], *more])
