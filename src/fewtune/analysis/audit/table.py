"""The audit of anyone's results: a table with a row a run.

Owns which columns a table may have and the rules that a table alone can break. Does not know fewtune's records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.analysis.audit.audit import order_findings
from fewtune.analysis.audit.finding import Finding, word_number
from fewtune.errors import RecordError

if TYPE_CHECKING:
    import polars as pl

METHOD = ("method", "variant", "peft_type", "name")
CELL = ("task", "dataset", "model", "model_name", "shots", "n_shots", "samples", "test_set", "metric")
"""What a comparison holds fixed, besides the method."""
SEED = ("seed", "data_seed", "fit_seed", "run", "draw")
MAJORITY = ("majority", "majority_share", "baseline")
PLACE = ("hardware", "gpu", "device", "processor", "torch", "torch_version", "machine")
COST = ("seconds", "time", "train_time", "fit_seconds", "runtime", "memory", "peak_memory")
ACCURACY = ("accuracy", "acc", "eval_accuracy", "test_accuracy", "in_domain")
"""Results that can be set beside the commonest label's share; `value` can where `metric` names one of these."""
OTHER_SCORE = (
    "score", "value", "metric", "mcc", "matthews_correlation", "macro_f1", "f1", "out_of_domain", "loss", "eval_loss",
)  # fmt: skip
SEPARATORS = (",", ";", "\t")
FEWEST_DIGITS = 3
"""Digits behind the point, of a share, from which equal scores of two runs are no chance."""
DETERMINISTIC = ("majority", "chance", "random", "tfidf", "zero_shot", "zeroshot")
"""Methods that may repeat themselves: nothing in them is random, or nobody calls them a result."""


@dataclass(frozen=True)
class _Columns:
    method: str
    accuracy: str | None
    cell: tuple[str, ...]
    seed: tuple[str, ...]
    majority: str | None
    place: tuple[str, ...]
    cost: tuple[str, ...]
    scores: tuple[str, ...]


def audit_table(path: Path, majority: float | None = None) -> list[Finding]:
    """Audit a CSV file with a row a run; `majority` is the commonest label's share, where no column tells it.

    It may be a percentage, and columns may be parted by semicolons or tabs. Raises RecordError where the file cannot be
    read, names no method or score, or the majority is no share.
    """
    import polars as pl

    if majority is not None and (not 0 < majority < 100 or majority == 1):
        raise RecordError(f"--majority is {majority:g}; give a share such as 0.691, or a percentage such as 69.1.")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.readline()
        separator = max(SEPARATORS, key=head.count)
        table = pl.read_csv(path, infer_schema_length=None, separator=separator)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecordError(f"{path}: not a readable CSV file ({' '.join(str(error).split())[:120]}).") from error
    columns = _find_columns(path, table)
    cells = [part for _, part in table.group_by([*columns.cell, columns.method], maintain_order=True)]
    groups = [part for _, part in table.group_by(columns.cell, maintain_order=True)] if columns.cell else [table]
    found: list[Finding] = []
    for cell in cells:
        found += _find_identical_runs(cell, columns)
        found += _find_low_scores(cell, columns, majority)
    for group in groups:
        found += _find_single_runs(group, columns)
        found += _find_unlike_places(group, columns)
    return order_findings(found)


TABLE_RULES = 4
"""Rules that a table alone can break."""


def _find_columns(path: Path, table: pl.DataFrame) -> _Columns:
    by_name = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in table.columns}

    def pick(names: Sequence[str], numbers: bool = False) -> tuple[str, ...]:
        there = [by_name[name] for name in names if name in by_name]
        return tuple(name for name in there if not numbers or table[name].dtype.is_numeric())

    method, majority = pick(METHOD), pick(MAJORITY, numbers=True)
    accuracies, others = pick(ACCURACY, numbers=True), pick(OTHER_SCORE, numbers=True)
    scores = (*accuracies, *others)
    for what, found, allowed in (("method", method, METHOD), ("score", scores, ACCURACY + OTHER_SCORE)):
        if not found:
            raise RecordError(
                f"{path}: no {what} column among {', '.join(table.columns)}. "
                f"Name one of them {' or '.join(allowed[:4])}{'; it must hold numbers' if what == 'score' else ''}."
            )
    return _Columns(
        method=method[0],
        accuracy=accuracies[0] if accuracies else None,
        # A column `metric` holds the results themselves, or the names of those that stand in `value`.
        cell=tuple(name for name in pick(CELL) if name not in scores),
        seed=pick(SEED),
        majority=majority[0] if majority else None,
        place=pick(PLACE),
        cost=pick(COST, numbers=True),
        scores=scores,
    )


def _find_identical_runs(cell: pl.DataFrame, columns: _Columns) -> Iterator[Finding]:
    if _is_deterministic(cell, columns):
        return
    results = cell.select(columns.scores).drop_nulls(columns.scores[0])
    distinct = results.unique().height
    shares = [value / 100 if abs(value) > 1 else value for value in results[columns.scores[0]]]
    exact = any(round(value, FEWEST_DIGITS - 1) != round(value, FEWEST_DIGITS + 3) for value in shares)
    # One pair that agrees may be chance on few test rows; half of all runs is none.
    if exact and results.height > 1 and distinct <= results.height / 2:
        yield Finding(
            rule="identical runs",
            severity="error",
            where=_name(cell, columns),
            reason=f"{results.height} runs have {distinct} distinct results: the others repeat them to the last digit",
            remedy="Count each distinct run once. Find what sets the seed again after it was set, and run anew.",
        )


def _find_low_scores(cell: pl.DataFrame, columns: _Columns, majority: float | None) -> Iterator[Finding]:
    metric = str(cell["metric"][0]).lower() if "metric" in columns.cell else None
    judged = "value" if metric in ACCURACY and "value" in columns.scores else columns.accuracy
    if judged is None or _is_deterministic(cell, columns):
        return
    known = cell[columns.majority].mean() if columns.majority is not None else majority
    mean = cell[judged].mean()
    if not isinstance(known, int | float) or not isinstance(mean, int | float):
        return
    # A share beside a percentage, whichever is which.
    if known <= 1 < mean:
        known *= 100
    elif mean <= 1 < known:
        known /= 100
    if mean <= known:
        yield Finding(
            rule="at the majority",
            severity="error",
            where=_name(cell, columns),
            reason=f"mean {judged} {mean:g} is not above always answering the commonest label, {known:g}",
            remedy="Nothing can be concluded from the order of such scores.",
        )


def _find_single_runs(group: pl.DataFrame, columns: _Columns) -> Iterator[Finding]:
    runs = {str(part[columns.method][0]): part for _, part in group.group_by(columns.method, maintain_order=True)}
    single = [
        name
        for name, part in runs.items()
        if part.height == 1 or (columns.seed and part.select(columns.seed).unique().height == 1)
    ]
    if single and len(runs) > 1:
        named = f"{', '.join(single[:5])}{', …' if len(single) > 5 else ''}"
        yield Finding(
            rule="single draw",
            severity="warning",
            where=_name_group(group, columns),
            reason=f"{len(single)} of {word_number(len(runs), 'method')} rest on one seed ({named}): "
            "differences smaller than the spread of runs are no findings",
            remedy="Run several seeds and report intervals; or show the spread of one method at least.",
        )


def _find_unlike_places(group: pl.DataFrame, columns: _Columns) -> Iterator[Finding]:
    if not columns.cost:
        return
    for place in columns.place:
        values = group[place].drop_nulls().unique().sort().to_list()
        if len(values) > 1 and group[columns.method].n_unique() > 1:
            yield Finding(
                rule="unlike machines",
                severity="warning",
                where=_name_group(group, columns),
                reason=f"{' and '.join(columns.cost)} stand side by side from {place} {', '.join(map(str, values))}",
                remedy="Compare scores alone, or measure on one machine with one set of versions.",
            )


def _is_deterministic(cell: pl.DataFrame, columns: _Columns) -> bool:
    return str(cell[columns.method][0]).strip().lower().replace("-", "_").replace(" ", "_") in DETERMINISTIC


def _name(cell: pl.DataFrame, columns: _Columns) -> str:
    return " · ".join(str(cell[name][0]) for name in (columns.method, *columns.cell))


def _name_group(group: pl.DataFrame, columns: _Columns) -> str:
    return " · ".join(str(group[name][0]) for name in columns.cell) or "the table"
