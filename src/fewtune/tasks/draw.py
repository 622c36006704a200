"""Samples a draw (support, unlabelled pool and test rows) from named seeds alone.

Owns sampling and refusing samples that the rows cannot give. Does not know methods or models: every one of
them sees the same draw.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from fewtune.errors import DataError, list_names
from fewtune.plurals import pluralise
from fewtune.tasks.base import Draw, Example, Task, TestSet


@dataclass(frozen=True)
class Sampling:
    """How many rows a draw has, and which."""

    shots: int
    """Labelled rows: of each label with `per_class`, else in total."""
    per_class: bool = False
    balanced: bool = True
    """Whether labels have as equal shares as can be; else those of the training rows."""
    stratified: bool = False
    """Whether, where not balanced, these shares hold in every draw, with a row of every label, and not by chance."""
    pool_rows: int = 0
    """Unlabelled rows."""
    in_domain_rows: int | None = None
    """Test rows in domain, at most; None: all."""
    out_of_domain_rows: int | None = None
    """Test rows of each set out of domain, at most; None: all."""

    def count_support(self, task: Task) -> int:
        """How many labelled rows these shots are in total."""
        return self.shots * len(task.labels) if self.per_class else self.shots


def check_sampling(task: Task, sampling: Sampling) -> None:
    """Raise DataError where a task cannot give so many shots and pool rows, whatever the seed."""
    shots, per_class, pool_rows = sampling.shots, sampling.per_class, sampling.pool_rows
    total = sampling.count_support(task)
    said = f"{pluralise(shots, 'shot')} per class, {total} in total" if per_class else pluralise(shots, "shot")
    if shots < 1 or pool_rows < 0:
        raise DataError(
            f"{task.name}: {said} and {pluralise(pool_rows, 'pool row')} asked. Ask at least 1 shot and 0 pool rows."
        )
    if total < len(task.labels):
        raise DataError(
            f"{task.name}: {said} cannot hold all {len(task.labels)} labels. "
            f"Ask at least {len(task.labels)} shots in total."
        )
    counts = Counter(row.label for row in task.train)
    left = {index: counts[index] - _count_held_out(task, counts[index]) for index in range(len(task.labels))}
    rows = sum(left.values())
    but = "" if task.held_out is None else f" beside the {len(task.train) - rows} that each draw is tested on"
    if total + pool_rows > rows:
        raise DataError(
            f"{task.name}: {said} and {pluralise(pool_rows, 'pool row')} asked, but there are {rows} training rows"
            f"{but}. Ask at most {rows} together."
        )
    if not sampling.balanced:
        return
    most = -(-total // len(task.labels))
    for index, label in enumerate(task.labels):
        have = left[index]
        if have < most:
            raise DataError(
                f"{task.name}: {said}, balanced, take up to {pluralise(most, 'row')} of every label, but {label!r} "
                f"has {have}{but}. Ask fewer shots, or set `sampling: stratified`."
            )


def make_draw(task: Task, sampling: Sampling, data_seed: int) -> Draw:
    """Sample a task's rows: equal arguments give equal draws; supports of one data seed nest over shots.

    Balanced: the shots are split as evenly as possible over the labels. Stratified: each label has its share of the
    training rows, and one row at least. Otherwise they are the first rows of a permutation, and DataError is raised
    where a label is missing. Test sets keep their order; each is
    limited to a sample that is the same for all shots (None: all rows). A task that names a share to hold out has that
    much of each label's training rows as test rows, the same for all shots, and the support from the others.
    """
    check_sampling(task, sampling)
    task = _hold_out(task, data_seed)
    total = sampling.count_support(task)
    permutation = _permute(len(task.train), task.name, data_seed, "support")
    if sampling.balanced:
        chosen = _choose_balanced(task, total, data_seed, permutation)
    elif sampling.stratified:
        chosen = _choose_stratified(task, total, permutation)
    else:
        chosen = permutation[:total]
        _check_labels(task, chosen, data_seed)
    taken = set(chosen)
    # The permutation puts rare labels last in a balanced support, so demonstrations are ordered by another.
    order = _permute(len(task.train), task.name, data_seed, "order")
    support = tuple(task.train[row] for row in order if row in taken)
    free = (row for row in reversed(permutation) if row not in taken)
    pool = tuple(task.train[row].without_label() for row in islice(free, sampling.pool_rows))
    limits = [sampling.in_domain_rows, *[sampling.out_of_domain_rows] * (len(task.test_sets) - 1)]
    test_sets = tuple(
        _limit_rows(test_set, limit, task.name, data_seed)
        for test_set, limit in zip(task.test_sets, limits, strict=False)
    )
    return Draw(support, pool, test_sets, _fingerprint(support, pool, test_sets))


def share_support(task: Task, draw: Draw) -> float:
    """The share of its labelled rows that another draw's support has too, on average, of the label with most of it."""
    return max(count / task.label_counts[label] for label, count in Counter(row.label for row in draw.support).items())


def _hold_out(task: Task, data_seed: int) -> Task:
    """The task with this draw's test rows taken out of its training rows; as it is where it names no share."""
    if task.held_out is None:
        return task
    by_label: dict[int | None, list[int]] = defaultdict(list)
    for row in _permute(len(task.train), task.name, data_seed, "held out"):
        by_label[task.train[row].label].append(row)
    taken = {row for rows in by_label.values() for row in rows[: _count_held_out(task, len(rows))]}
    inside, *others = task.test_sets
    return replace(
        task,
        train=tuple(example for row, example in enumerate(task.train) if row not in taken),
        test_sets=(replace(inside, rows=tuple(task.train[row] for row in sorted(taken))), *others),
    )


def _count_held_out(task: Task, rows: int) -> int:
    """How many of so many rows of one label are held out: one at the least, where another is left."""
    if task.held_out is None or rows < 2:
        return 0
    return min(rows - 1, max(1, round(task.held_out * rows)))


def _choose_balanced(task: Task, total: int, data_seed: int, permutation: Sequence[int]) -> list[int]:
    each, remainder = divmod(total, len(task.labels))
    favoured = _permute(len(task.labels), task.name, data_seed, "remainder")[:remainder]
    wanted = {label: each + (label in favoured) for label in range(len(task.labels))}
    chosen: list[int] = []
    for row in permutation:
        if len(chosen) == total:
            break
        label = task.train[row].label
        if label is not None and wanted[label] > 0:
            wanted[label] -= 1
            chosen.append(row)
    return chosen


def _choose_stratified(task: Task, total: int, permutation: Sequence[int]) -> list[int]:
    """One row of every label, then each label's rows as its share comes to them, so that supports nest over shots.

    Shares are rounded as Webster's method of apportionment does, whose seats nest too
    (https://en.wikipedia.org/wiki/Sainte-Lagu%C3%AB_method).
    """
    met: Counter[int | None] = Counter()
    turns: dict[int, float] = {}
    for row in permutation:
        label = task.train[row].label
        turns[row] = (met[label] + 0.5) / task.label_counts[label] if met[label] else 0.0
        met[label] += 1
    return sorted(turns, key=lambda row: turns[row])[:total]


def _check_labels(task: Task, chosen: Sequence[int], data_seed: int) -> None:
    present = {task.train[row].label for row in chosen}
    missing = [label for index, label in enumerate(task.labels) if index not in present]
    if missing:
        raise DataError(
            f"{task.name}: the {pluralise(len(chosen), 'shot')} of data seed {data_seed} hold no row labelled "
            f"{list_names(missing)}. Ask more shots, take another data seed, or set "
            "`sampling: stratified`."
        )


def _limit_rows(test_set: TestSet, rows: int | None, task_name: str, data_seed: int) -> TestSet:
    if rows is None or rows >= len(test_set.rows):
        return test_set
    if rows < 1:
        raise DataError(f"{task_name}: {rows} test rows asked of {test_set.name}. Ask at least 1, or none for all.")
    chosen = sorted(_permute(len(test_set.rows), task_name, data_seed, f"test set {test_set.name}")[:rows])
    return replace(test_set, rows=tuple(test_set.rows[row] for row in chosen))


def _permute(size: int, task_name: str, data_seed: int, purpose: str) -> list[int]:
    named = json.dumps([task_name, data_seed, purpose]).encode()
    seed = int.from_bytes(hashlib.sha256(named).digest(), "big")
    permutation: list[int] = np.random.default_rng(seed).permutation(size).tolist()
    return permutation


def _fingerprint(support: Sequence[Example], pool: Sequence[Example], test_sets: Sequence[TestSet]) -> str:
    ids = {
        "support": [row.row_id for row in support],
        "pool": [row.row_id for row in pool],
        "test": [[test_set.name, *(row.row_id for row in test_set.rows)] for test_set in test_sets],
    }
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
