"""The audit of anyone's results: a table with a row a run.

Owns how such a file is read, which columns it may have and the rules that a table alone can break. Does not know
fewtune's records.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from fewtune.analysis.audit.audit import order_findings
from fewtune.analysis.audit.finding import Finding, word_number
from fewtune.errors import RecordError

METHOD = ("method", "variant", "peft_type", "name")
CELL = ("task", "dataset", "model", "model_name", "shots", "n_shots", "samples", "test_set", "metric")
"""What a comparison holds fixed, besides the method."""
SEED = ("seed", "data_seed", "fit_seed", "run", "draw")
MAJORITY = ("majority", "majority_share", "baseline")
PLACE = ("hardware", "gpu", "device", "processor", "torch", "torch_version", "machine")
COST = ("seconds", "time", "train_time", "fit_seconds", "runtime", "memory", "peak_memory")
ACCURACY = ("accuracy", "acc", "eval_accuracy", "test_accuracy", "in_domain")
"""Results that can be set beside the commonest label's share."""
MCC = ("mcc", "matthews_correlation")
"""Results of which the commonest label's is 0."""
F1 = ("macro_f1", "f1")
OTHER_SCORE = ("score", "value", "metric", *MCC, *F1, "out_of_domain", "loss", "eval_loss")
NAMED = ("value", "score", "in_domain", "out_of_domain")
"""Results of the kind that a column `metric` names."""
MAY_BE_WORDS = ("metric", "loss")
"""Score columns, unless they hold no number at all: then they name a metric or a loss."""
COLUMNS = (*METHOD, *CELL, *SEED, *MAJORITY, *PLACE, *COST, *ACCURACY, *OTHER_SCORE)
SEPARATORS = (",", ";", "\t")
MISSING = ("", "na", "n/a", "-", "--", "–", "—", "none", "null", "empty")
"""Cells of a column of numbers that hold none."""
FEWEST_DIGITS = 3
"""Digits behind the point, of a share, from which equal scores of two runs are no chance."""
MOST_NAMES = 20
"""Methods that a finding names, before it counts the rest."""
DETERMINISTIC = ("majority", "chance", "random", "tfidf", "zero_shot", "zeroshot")
"""Methods that may repeat themselves: nothing in them is random, or nobody calls them a result."""

Key = TypeVar("Key")
_Results = dict[tuple[str, ...], list[tuple[tuple[str, float], ...]]]
"""A method's scores by seed."""


@dataclass(frozen=True)
class _Row:
    """One run; `scores` and `places` hold what is there, by the names of their columns."""

    method: str
    group: tuple[str, ...]
    metric: str
    seed: tuple[str, ...]
    majority: float | None
    places: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True)
class _Table:
    rows: list[_Row]
    scores: tuple[str, ...]
    seeds: tuple[str, ...]
    places: tuple[str, ...]
    costs: tuple[str, ...]


@dataclass(frozen=True)
class TableAudit:
    """What was found by how many rules, and what each rule that could not be asked needs."""

    findings: list[Finding]
    asked: int
    unasked: dict[str, str]


def audit_table(path: Path, majority: float | None = None) -> TableAudit:
    """Audit a CSV file with a row a run; `majority` is the commonest label's share, where no column tells it.

    It may be a percentage, and columns may be parted by semicolons or tabs; the path `-` is standard input. Raises
    RecordError where the file cannot be read, names no method or score, or the majority is no share.
    """
    if majority is not None and (not 0 < majority < 100 or majority == 1):
        raise RecordError(f"--majority is {majority:g}; give a share such as 0.691, or a percentage such as 69.1.")
    table = _read_table(path, majority)
    unasked = _list_unasked(table)
    found = [
        finding for rows in _split(table.rows, lambda row: row.group).values() for finding in _find_no_scores(rows)
    ]
    table = _drop_no_scores(table)
    for rule in RULES:
        for rows in _split(table.rows, lambda row: row.group).values():
            found += rule(rows, table)
    return TableAudit(order_findings(found), len(RULES) + 1 - len(unasked), unasked)


def _read_table(path: Path, majority: float | None) -> _Table:
    header, lines = _read_lines(path)
    by_name: dict[str, int] = {}
    for place, name in enumerate(header):
        if by_name.setdefault(_plain(name), place) != place and _plain(name) in COLUMNS:
            other = header[by_name[_plain(name)]]
            raise RecordError(f"{path}: columns {other} and {name} have one name; rename or drop one of them.")

    def holds_numbers(name: str) -> bool:
        return any(_is_number(cells[by_name[name]]) for _, cells in lines)

    def pick(names: Sequence[str], keep: Callable[[str], bool] = lambda name: True) -> list[int]:
        return [by_name[name] for name in names if name in by_name and keep(name)]

    def holds_scores(name: str) -> bool:
        words = any(cells[by_name[name]].lower() not in MISSING for _, cells in lines)
        return holds_numbers(name) or (words and name not in MAY_BE_WORDS)

    methods, scores = pick(METHOD), pick(ACCURACY + OTHER_SCORE, holds_scores)
    for what, found, allowed in (("method", methods, METHOD), ("score", scores, ACCURACY + OTHER_SCORE)):
        if not found:
            raise RecordError(
                f"{path}: no {what} column among {', '.join(header)}. "
                f"Name one of them {' or '.join(allowed[:4])}{'; it must hold numbers' if what == 'score' else ''}."
            )

    def number(place: int, line: int, cells: Sequence[str]) -> float | None:
        try:
            return _parse(cells[place])
        except ValueError:
            raise RecordError(
                f"{path}: column {header[place]}, line {line}: {cells[place]!r} is no number. "
                "Write it such as 0.7123 or 71.23%, or leave the cell empty."
            ) from None

    shares, seeds, places = pick(MAJORITY, holds_numbers)[:1], pick(SEED), pick(PLACE)
    # A column `metric` holds the results themselves, or the names of those that stand in `value`.
    group = [place for place in pick(CELL) if place not in scores]
    metrics = [place for place in pick(("metric",)) if place in group]
    rows = []
    for line, cells in lines:
        if not cells[methods[0]]:
            raise RecordError(f"{path}: column {header[methods[0]]}, line {line}: a run without a method; name it.")
        known = [
            share for place in shares if (share := number(place, line, cells)) is not None and math.isfinite(share)
        ]
        results = {header[place]: number(place, line, cells) for place in scores}
        rows.append(
            _Row(
                method=cells[methods[0]],
                group=tuple(cells[place] for place in group),
                metric=_plain(cells[metrics[0]]) if metrics else "",
                seed=tuple(cells[place] for place in seeds),
                majority=known[0] if known else None if shares else majority,
                places={header[place]: cells[place] for place in places if cells[place]},
                scores={name: score for name, score in results.items() if score is not None},
            )
        )
    return _Table(
        rows=[row for row in rows if row.scores],
        scores=tuple(header[place] for place in scores),
        seeds=tuple(header[place] for place in seeds),
        places=tuple(header[place] for place in places),
        costs=tuple(header[place] for place in pick(COST, holds_numbers)),
    )


def _read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's names, and the cells of every row with the line that they end on."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: not a readable CSV file ({(error.strerror or str(error)).lower()}).") from error
    text = raw.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise RecordError(f"{path}: not a readable CSV file (it is no text in UTF-8).")
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=head.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise RecordError(f"{path}: line {reader.line_num}: a quotation mark too many or too few.") from error
    if len(lines) < 2:
        raise RecordError(f"{path}: {'no row below the header' if lines else 'the file is empty'}.")
    (first, header), *rows = lines
    for line, cells in rows:
        if len(cells) != len(header):
            comment = next((f" Take out comments such as line {n}'s." for n, c in lines if c[0].startswith("#")), "")
            raise RecordError(
                f"{path}: line {line} has {word_number(len(cells), 'cell')}, the header on line {first} has "
                f"{len(header)}.{comment}"
            )
    return header, rows


def _parse(text: str) -> float | None:
    """The number in a cell, None where it is missing; raises ValueError where it is neither."""
    if text.lower() in MISSING:
        return None
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _is_number(text: str) -> bool:
    try:
        return _parse(text) is not None
    except ValueError:
        return False


def _find_no_scores(rows: Sequence[_Row]) -> Iterator[Finding]:
    """Scores that are not finite, or that no metric of that name can have."""
    each = []
    for method, runs in _split(rows, lambda row: row.method).items():
        for column in dict.fromkeys(name for row in runs for name in row.scores):
            bad = [row.scores[column] for row in runs if column in row.scores and not _can_be(column, row)]
            if bad:
                values = _list(sorted({f"{value:g}" for value in bad}))
                each.append(f"{column} of {method} is {values} in {word_number(len(bad), 'row')}")
    if each:
        yield Finding(
            rule="scores that are no numbers",
            severity="error",
            where=_name(rows),
            reason=f"not finite, or outside what such a score can be: {_list(each, '; ')}",
            remedy="Find what made them, such as a loss that overflowed or figures in a wrong column. The other rules "
            "leave them out.",
        )


def _drop_no_scores(table: _Table) -> _Table:
    rows = [
        replace(row, scores={name: score for name, score in row.scores.items() if _can_be(name, row)})
        for row in table.rows
    ]
    return replace(table, rows=[row for row in rows if row.scores])


def _can_be(column: str, row: _Row) -> bool:
    """Whether a score is finite and, as a share or a percentage, within its metric's bounds."""
    kind = _kind(column, row)
    lowest = -100 if kind in MCC else 0 if kind in ACCURACY + F1 else -math.inf
    highest = 100 if kind in MCC + ACCURACY + F1 else math.inf
    return math.isfinite(row.scores[column]) and lowest <= row.scores[column] <= highest


def _find_identical_runs(rows: Sequence[_Row], table: _Table) -> Iterator[Finding]:
    copied = []
    for method, runs in _split(rows, lambda row: row.method).items():
        distinct = {tuple(sorted(row.scores.items())) for row in runs}
        # One pair that agrees may be chance on few test rows; half of all runs is none.
        if not _is_deterministic(method) and len(distinct) <= len(runs) / 2 and _has_digits(runs, table):
            copied.append(f"{method}'s {len(runs)} runs have {word_number(len(distinct), 'distinct result')}")
    if copied:
        yield Finding(
            rule="identical runs",
            severity="error",
            where=_name(rows),
            reason=f"runs repeat others of their method to the last digit: {_list(copied, '; ')}",
            remedy="Count each distinct run once. Find what sets the seed again after it was set, and run anew.",
        )


def _find_settings_without_effect(rows: Sequence[_Row], table: _Table) -> Iterator[Finding]:
    """Methods whose scores are equal on every seed that they share, two at least."""
    if not table.seeds:
        return
    results = {
        method: {seed: _list_results(part) for seed, part in _split(runs, lambda row: row.seed).items()}
        for method, runs in _split(rows, lambda row: row.method).items()
        if not _is_deterministic(method) and _has_digits(runs, table)
    }
    alike: list[list[str]] = []
    for method, scores in results.items():
        same = (part for part in alike if all(_score_alike(scores, results[other]) for other in part))
        part = next(same, None)
        if part is None:
            alike.append([method])
        else:
            part.append(method)
    copied = [_list(part) for part in alike if len(part) > 1]
    if copied:
        yield Finding(
            rule="settings without effect",
            severity="error",
            where=_name(rows),
            reason=f"scores are equal to the last digit on every seed that methods share: {_list(copied, '; ')}",
            remedy="Find out whether what tells them apart was applied at all, or whether they give every row one "
            "answer; do not report them as several methods.",
        )


def _score_alike(first: _Results, second: _Results) -> bool:
    shared = first.keys() & second.keys()
    return len(shared) > 1 and all(first[seed] == second[seed] for seed in shared)


def _list_results(rows: Iterable[_Row]) -> list[tuple[tuple[str, float], ...]]:
    return sorted(tuple(sorted(row.scores.items())) for row in rows)


def _find_low_scores(rows: Sequence[_Row], table: _Table) -> Iterator[Finding]:
    judged = [name for name in table.scores if _kind(name, rows[0]) in MCC]
    # The majority is that of the rows in domain.
    judged += [n for n in table.scores if _kind(n, rows[0]) in ACCURACY and _plain(n) != "out_of_domain"][:1]
    low: dict[str, list[str]] = defaultdict(list)
    for column in judged:
        for method, runs in _split(rows, lambda row: row.method).items():
            floors = [(row, 0.0 if _kind(column, row) in MCC else row.majority) for row in runs if column in row.scores]
            pairs = [(row.scores[column], floor) for row, floor in floors if floor is not None]
            if not pairs or _is_deterministic(method):
                continue
            mean, known = (fmean(values) for values in zip(*pairs, strict=True))
            # A share beside a percentage, whichever is which.
            if known <= 1 < mean:
                known *= 100
            elif mean <= 1 < known:
                known /= 100
            if mean <= known + 1e-9:
                low[f"{column} {known:zg}"].append(f"{method} {mean:zg}")
    if low:
        each = "; ".join(f"{known}: {_list(methods)}" for known, methods in low.items())
        yield Finding(
            rule="at the majority",
            severity="error",
            where=_name(rows),
            reason=f"mean scores not above always answering the commonest label, {each}",
            remedy="Nothing can be concluded from the order of such scores.",
        )


def _find_single_runs(rows: Sequence[_Row], table: _Table) -> Iterator[Finding]:
    methods = _split(rows, lambda row: row.method)
    single = [
        name
        for name, runs in methods.items()
        if len(runs) == 1 or (table.seeds and len({row.seed for row in runs}) == 1)
    ]
    if single and len(methods) > 1:
        yield Finding(
            rule="single draw",
            severity="warning",
            where=_name(rows),
            reason=f"{len(single)} of {word_number(len(methods), 'method')} rest on one seed ({_list(single)}): "
            "differences smaller than the spread of runs are no findings",
            remedy="Run several seeds and report intervals; or show the spread of one method at least.",
        )


def _find_unlike_places(rows: Sequence[_Row], table: _Table) -> Iterator[Finding]:
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


def _list_unasked(table: _Table) -> dict[str, str]:
    """The rules that no row can break, each with what the table lacks for it."""
    kinds = {_kind(column, row) for row in table.rows for column in row.scores}
    known, accuracy = any(row.majority is not None for row in table.rows), kinds & {*ACCURACY}
    majority = ["majority (or --majority)"] if accuracy else ["accuracy or mcc"]
    lacks = {
        "settings without effect": [] if table.seeds else ["seed"],
        "at the majority": [] if kinds & {*MCC} or (known and accuracy) else majority,
        "unlike machines": [*([] if table.places else ["gpu"]), *([] if table.costs else ["seconds"])],
    }
    return {rule: " and a column ".join(columns) for rule, columns in lacks.items() if columns}


def _kind(column: str, row: _Row) -> str:
    """The plain name of the metric that a row's column holds."""
    return row.metric if row.metric and _plain(column) in NAMED else _plain(column)


def _has_digits(rows: Iterable[_Row], table: _Table) -> bool:
    """Whether scores of the first column that has any are too exact to be equal by chance."""
    column = next(name for name in table.scores if any(name in row.scores for row in rows))
    values = [row.scores[column] for row in rows if column in row.scores]
    shares = [value / 100 if abs(value) > 1 else value for value in values]
    return any(round(share, FEWEST_DIGITS - 1) != round(share, FEWEST_DIGITS + 3) for share in shares)


def _is_deterministic(method: str) -> bool:
    return _plain(method) in DETERMINISTIC


def _plain(text: str) -> str:
    return text.strip().lower().replace(" ", "_").replace("-", "_")


def _split(rows: Iterable[_Row], key: Callable[[_Row], Key]) -> dict[Key, list[_Row]]:
    parts: dict[Key, list[_Row]] = defaultdict(list)
    for row in rows:
        parts[key(row)].append(row)
    return parts


def _name(rows: Sequence[_Row]) -> str:
    return " · ".join(filter(None, rows[0].group)) or "the table"


def _list(names: Sequence[str], separator: str = ", ") -> str:
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return separator.join([*names[:MOST_NAMES], *more])
