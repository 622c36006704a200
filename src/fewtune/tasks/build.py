"""Builds a task from rows: removes repeats, keeps sets apart, computes a fingerprint.

Owns these three steps, the same for every task. Does not know where rows come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fewtune.errors import DataError
from fewtune.plurals import choose_verb, pluralise
from fewtune.tasks.base import Example, Task, TestSet
from fewtune.tasks.texts import text_key


def build_task(task: Task) -> Task:
    """The task with each training text once, sets that share no text, and its fingerprint.

    A task module hands over the rows as it read them; what is left out is said in the task's notes.
    """
    train, repeats = drop_repeats(task.train, "train")
    train, test_sets, shared = separate_sets(train, task.test_sets)
    return replace(
        task,
        train=train,
        test_sets=test_sets,
        fingerprint=fingerprint_rows(train, test_sets),
        notes=(*task.notes, *repeats, *shared),
    )


def check_sets(task: Task) -> None:
    """Raise DataError where a task has fewer than two labels or a test set without rows, one drawn anew apart."""
    if len(task.labels) < 2:
        raise DataError(
            f"{task.name}: only {len(task.labels)} label is left ({', '.join(task.labels)}), and nothing to tell it "
            "from. Change the settings that leave rows out, or take other files."
        )
    for test_set in task.test_sets[1:] if task.held_out is not None else task.test_sets:
        if not test_set.rows:
            raise DataError(
                f"{task.name}: the test set {test_set.name} has no rows left. Change the settings that leave rows out, "
                "or take other files."
            )


def drop_repeats(rows: Sequence[Example], what: str) -> tuple[tuple[Example, ...], list[str]]:
    """The rows with each text once, and notes on what was left out.

    The first row of a repeated text is kept; a text that carries different labels is left out altogether.
    """
    labels: dict[str, set[int | None]] = {}
    for row in rows:
        labels.setdefault(text_key(row), set()).add(row.label)
    kept: list[Example] = []
    seen: set[str] = set()
    repeated = contradictory = 0
    for row in rows:
        key = text_key(row)
        if len(labels[key]) > 1:
            contradictory += 1
        elif key in seen:
            repeated += 1
        else:
            seen.add(key)
            kept.append(row)
    notes = []
    if repeated:
        repeat = choose_verb(repeated, "repeats", "repeat")
        notes.append(f"{what}: {pluralise(repeated, 'row')} left out that {repeat} the text of another row.")
    if contradictory:
        notes.append(f"{what}: {pluralise(contradictory, 'row')} left out whose text carries different labels.")
    return tuple(kept), notes


def separate_sets(
    train: Sequence[Example], test_sets: Sequence[TestSet]
) -> tuple[tuple[Example, ...], tuple[TestSet, ...], list[str]]:
    """Training and test sets that share no text, and notes on what was left out; `test_sets[0]` is in domain.

    A text in several sets stays in the last of training, in domain, out of domain: published out-of-domain
    sets keep their rows.
    """
    notes: list[str] = []
    separate = list(test_sets)
    if separate:
        outside = {text_key(row) for other in separate[1:] for row in other.rows}
        inside = separate[0]
        kept = tuple(row for row in inside.rows if text_key(row) not in outside)
        if len(kept) < len(inside.rows):
            notes.append(
                f"{inside.name}: {pluralise(len(inside.rows) - len(kept), 'row')} left out whose text is in an "
                "out-of-domain set."
            )
        separate[0] = replace(inside, rows=kept)
    tested = {text_key(row) for test_set in test_sets for row in test_set.rows}
    kept = tuple(row for row in train if text_key(row) not in tested)
    if len(kept) < len(train):
        notes.append(f"train: {pluralise(len(train) - len(kept), 'row')} left out whose text is in a test set.")
    return kept, tuple(separate), notes


def fingerprint_rows(train: Iterable[Example], test_sets: Iterable[TestSet]) -> str:
    """SHA-256 over every row's set, id, texts and label: equal fingerprints mean equal data."""
    digest = hashlib.sha256()

    def add(set_name: str, rows: Iterable[Example]) -> None:
        for row in rows:
            content = json.dumps([set_name, row.row_id, list(row.fields.items()), row.label])
            digest.update(content.encode() + b"\n")

    add("train", train)
    for test_set in test_sets:
        digest.update(json.dumps([test_set.name, test_set.labels, test_set.label_of]).encode() + b"\n")
        add(test_set.name, test_set.rows)
    return digest.hexdigest()
