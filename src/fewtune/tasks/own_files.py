"""Reads your own labelled rows from CSV, TSV, JSON Lines or Parquet files.

Owns refusing rows that cannot be used, each in one message that names file, row and column. Does not know how a file is
read (`row_files`), which columns are read (`columns`), what a label may be (`label_column`), how a pattern is derived
(`derived_pattern`), or how a draw is made of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fewtune.data.row_files import read_rows
from fewtune.errors import DataError, list_names, name_choices
from fewtune.metrics.table import METRICS, choose_primary_metric
from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, RowsLeftOut, Task, TestSet
from fewtune.tasks.build import build_task, drop_repeats
from fewtune.tasks.columns import Columns, find_columns
from fewtune.tasks.contradictions import describe_contradictions, find_contradictions
from fewtune.tasks.derived_pattern import derive_pattern, describe_derived
from fewtune.tasks.filled_rows import find_filled
from fewtune.tasks.label_column import check_labels, describe_id, find_alike, looks_missing, order_labels
from fewtune.tasks.patterns import check_pattern

NAME = "own_files"
SOURCE_URL = ""
SUMMARY = "Your own labelled rows (CSV, TSV, JSON Lines or Parquet), with any number of labels and test files."

_TAKEN = ("train", "support", "pool", "demonstrations")
"""Names of sets of rows that are no test sets: records and the audit tell rows by them."""


@dataclass(frozen=True)
class PatternSettings:
    """A pattern as a study writes it."""

    name: Annotated[str, Field(min_length=1, description="How results call the pattern.")]
    template: Annotated[str, Field(description="Text with the text columns in braces, such as '{text}\\nTopic:'.")]
    label_words: Annotated[
        dict[str, str] | tuple[str, ...],
        Field(description="The word that stands for each label: by label, or a list in the labels' sorted order."),
    ]
    constrained: Annotated[
        bool,
        Field(
            description="Of label words of several tokens, each token's probability is taken among those alone with "
            "which a label word goes on: tokens that tell no labels apart say nothing and cost nothing. false: among "
            "the whole vocabulary."
        ),
    ] = False


@dataclass(frozen=True)
class Settings:
    """Which files and columns to read, and how to word them."""

    train: Annotated[Path, Field(description="The file of training rows; relative to the data folder, if given.")]
    tests: Annotated[
        dict[str, Path],
        Field(description="Files of test rows by name; `in_domain` is the in-domain one, others are out of domain."),
    ] = field(default_factory=dict)
    text: Annotated[
        str | tuple[str, ...] | None,
        Field(description="The one or two columns of text; left out where only one choice is sensible."),
    ] = None
    label: Annotated[
        str | None,
        Field(
            description="The column of labels; left out: `label`, or the only one that repeats a few values. `nan` and "
            "the like beside numbers are refused as missing ones."
        ),
    ] = None
    conflicts: Annotated[
        Literal["drop", "refuse"],
        Field(
            description="What is done where rows of one text carry different labels: all of them left out of what is "
            "trained on and told of where they are tested on, or no file read."
        ),
    ] = "drop"
    missing: Annotated[
        Literal["refuse", "drop"],
        Field(
            description="What is done where a row has no text or no label: no file read, or such rows left out and "
            "counted. Rows without any cell filled are left out either way."
        ),
    ] = "refuse"
    patterns: Annotated[
        tuple[PatternSettings, ...],
        Field(description="Patterns to use, the first by default; derived from columns and labels where none."),
    ] = ()
    metric: Annotated[
        str | None,
        Field(description="The metric that results are compared by; null: accuracy, beyond two labels macro_f1."),
    ] = None
    test_fraction: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of each label's rows that each draw holds out to be tested on, anew, where no "
            "`in_domain` test is given.",
        ),
    ] = 0.25


def load(settings: Settings, data_dir: Path | None) -> Task:
    """Read the files; raises DataError naming file, row and column where something cannot be used."""
    return read_files(settings, data_dir)


def read_files(settings: Settings, data_dir: Path | None = None, hold_out: bool = True) -> Task:
    """Read the files; `hold_out`: whether draws hold rows out to be tested on, where no file is given to test on.

    Where none are, a label may have one row alone, and no study words the pattern, so that no note tells of it.
    Raises DataError as `load` does.
    """
    _check_names(settings)
    base = data_dir if data_dir is not None else Path()
    notes: list[str] = []
    path = base / settings.train
    file = read_rows(path)
    columns = find_columns(file, settings.text, settings.label)
    fields, label = columns.texts, columns.label
    notes.append(columns.describe(file))
    filled = find_filled(file, fields, label, settings.missing)
    train_rows = filled.cells
    labels = order_labels(row[label] for row in train_rows.values())
    notes += (*filled.notes, *check_labels({number: row[label] for number, row in train_rows.items()}, label, path))
    if len(labels) < 2:
        raise DataError(
            f"{path}: every row has the label {labels[0]!r} in column {label!r}. "
            "Give rows of at least two labels, or name the right column with `label`."
        )
    train = _make_examples(train_rows, "train", fields, label, labels, path)
    contradictions = find_contradictions(train)
    if contradictions and settings.conflicts == "refuse":
        raise DataError(
            f"{path}: {describe_contradictions(contradictions, labels)}. Correct their labels; `--conflicts drop`, "
            "in a study `conflicts: drop`, leaves such rows out."
        )
    contradictory = sum(map(len, contradictions))
    train, repeats = drop_repeats(train, "train")
    if not train:
        raise DataError(
            f"{path}: all {len(train_rows)} rows are left out, for every text carries different labels. Give each text "
            f"one label; where {label!r} is not the column of labels, name it with `label`."
        )
    if hold_out:  # `fewtune fit` tells how many there are from `left_out`
        notes += repeats
    if contradictions:
        notes.append(
            f"{describe_contradictions(contradictions, labels)}. `--conflicts refuse`, in a study `conflicts: refuse`, "
            "stops at such rows."
        )
    given, told = _read_tests(settings, base, columns, labels)
    notes += told
    held_out = None
    if IN_DOMAIN not in settings.tests and hold_out:
        held_out = settings.test_fraction
        notes.append(
            f"{IN_DOMAIN}: each draw is tested on {held_out:.3g} of each label's rows, others each time, and fitted on "
            "the rest."
        )
        given.insert(0, TestSet(IN_DOMAIN, (), labels, tuple(range(len(labels)))))
    patterns = _make_patterns(settings.patterns, fields, labels, notes if hold_out else [])
    task = Task(
        name=NAME,
        source_url=SOURCE_URL,
        revision=3,
        fields=fields,
        labels=labels,
        patterns=patterns,
        primary_metric=settings.metric or choose_primary_metric(len(labels)),
        train=train,
        test_sets=tuple(given),
        notes=tuple(notes),
        held_out=held_out,
    )
    built = build_task(task)
    left_out = RowsLeftOut(
        unfilled=len(file.rows) - len(train_rows),
        repeated=len(train_rows) - contradictory - len(train),
        contradictory=contradictory,
        tested=len(train) - len(built.train),
    )
    _check_left(built, path, describe_id(len(labels), len(train_rows), label))
    return replace(built, left_out=left_out)


def _check_names(settings: Settings) -> None:
    """Raise DataError where the metric is none that results are compared by, or a test set cannot be named so."""
    comparable = [name for name, metric in METRICS.items() if metric.higher_is_better]
    if settings.metric is not None and settings.metric not in comparable:
        raise DataError(name_choices(settings.metric, comparable, "metric"))
    for name in settings.tests:
        if not name.strip() or name in _TAKEN:
            raise DataError(
                f"tests: a test set is named {name!r}. Give it another name, such as in_domain or where its rows are "
                f"from; taken are {list_names(_TAKEN)}."
            )
        near = "".join(filter(str.isalnum, name)).casefold() == "indomain"
        if near and IN_DOMAIN not in settings.tests:
            raise DataError(f"tests: a test set is named {name!r}. Rows in domain are named {IN_DOMAIN!r}.")


def _read_tests(
    settings: Settings, base: Path, columns: Columns, labels: tuple[str, ...]
) -> tuple[list[TestSet], list[str]]:
    """The test sets that are files, the one in domain first, and notes on rows that contradict one another."""
    given: list[TestSet] = []
    notes: list[str] = []
    for name, test_file in sorted(settings.tests.items(), key=lambda item: item[0] != IN_DOMAIN):
        path = base / test_file
        filled = find_filled(read_rows(path), columns.texts, columns.label, settings.missing)
        notes += (f"{path}: {note}" for note in filled.notes)
        examples = _make_examples(filled.cells, name, columns.texts, columns.label, labels, path)
        contradictions = find_contradictions(examples)
        if contradictions:
            told = f"{path}: {describe_contradictions(contradictions, labels)}"
            if settings.conflicts == "refuse":
                raise DataError(
                    f"{told}. Correct their labels; `--conflicts drop`, in a study `conflicts: drop`, tests on them "
                    "all the same."
                )
            notes.append(f"{told}. They are tested on: no method can be right on all of them.")
        given.append(TestSet(name, examples, labels, tuple(range(len(labels)))))
    return given, notes


def _make_examples(
    rows: Mapping[int, Mapping[str, str]],
    set_name: str,
    fields: Sequence[str],
    label: str,
    labels: Sequence[str],
    path: Path,
) -> tuple[Example, ...]:
    index = {name: position for position, name in enumerate(labels)}
    examples: list[Example] = []
    for number, row in rows.items():
        if row[label] not in index:
            missing = " That is how a missing label is written: leave the row out." if looks_missing(row[label]) else ""
            raise DataError(
                f"{path}: row {number}, column {label!r}: {name_choices(row[label], labels, 'label')} "
                f"The training rows hold no other: correct the label, or add such rows to them.{missing}"
                f"{describe_id(len({other[label] for other in rows.values()}), len(rows), label)}"
            )
        examples.append(Example(f"{set_name}/{number}", {name: row[name] for name in fields}, index[row[label]]))
    return tuple(examples)


def _check_left(task: Task, path: Path, looks: str) -> None:
    present = {row.label for row in task.train}
    missing = [label for index, label in enumerate(task.labels) if index not in present]
    if missing:
        alike = "".join(
            f" {list_names(map(repr, group))} differ in spelling alone: where they are one label, spell it alike."
            for group in find_alike(task.labels)
            if set(group) & set(missing)
        )
        raise DataError(
            f"{path}: no training row labelled {list_names(missing)} is left once repeated, contradictory and test "
            f"texts are left out. Add training rows of that label.{alike}{looks}"
        )
    single = [label for index, label in enumerate(task.labels) if sum(row.label == index for row in task.train) == 1]
    tested = any(test_set.name == IN_DOMAIN for test_set in task.test_sets) and task.held_out is None
    if single and (task.held_out is not None or (len(single) == len(task.labels) and not tested)):
        raise DataError(
            f"{path}: there is one row alone of the label {list_names(single)}: it cannot be fitted and tested on. "
            "Give more rows of it, or a file of test rows (`--test FILE`, in a study `tests: {in_domain: FILE}`)."
            f"{looks}"
        )
    for test_set in task.test_sets:
        if not test_set.rows and not (task.held_out is not None and test_set.name == IN_DOMAIN):
            raise DataError(
                f"{path}: the test set {test_set.name!r} has no row left: its texts are all in an out-of-domain set. "
                "Give it rows of its own."
            )


def _make_patterns(
    given: Sequence[PatternSettings], fields: tuple[str, ...], labels: tuple[str, ...], notes: list[str]
) -> tuple[Pattern, ...]:
    if not given:
        pattern = derive_pattern(fields, labels)
        notes.append(f"{describe_derived(pattern, labels)} A study's `patterns` sets others.")
        return (pattern,)
    patterns: list[Pattern] = []
    for item in given:
        if item.name in {pattern.name for pattern in patterns}:
            raise DataError(f"pattern {item.name!r} is given twice. Give each pattern its own name.")
        pattern = Pattern(item.name, item.template, _order_words(item, labels), item.constrained)
        check_pattern(pattern, fields, labels)
        patterns.append(pattern)
    return tuple(patterns)


def _order_words(item: PatternSettings, labels: Sequence[str]) -> tuple[str, ...]:
    words = item.label_words
    if not isinstance(words, dict):
        return tuple(words)
    for label in words:
        if label not in labels:
            raise DataError(f"pattern {item.name!r}: label_words: {name_choices(label, labels, 'label')}")
    missing = [label for label in labels if label not in words]
    if missing:
        raise DataError(f"pattern {item.name!r}: label_words lacks {list_names(missing)}. Give a word for each label.")
    return tuple(words[label] for label in labels)
