"""The parts of a task: labelled examples, named test sets, patterns and label words.

Owns the values that a task module returns and that everything else reads. Does not know where rows
come from (`data`), how a draw is sampled (`draw`), or what a method does with them.

A task module defines
- `NAME`, `SOURCE_URL` (data set or paper), `SUMMARY` (one line for `fewtune list tasks`),
- `Settings`: a frozen dataclass, every field `Annotated` with a pydantic `Field(description=...)`,
- `load(settings: Settings, data_dir: Path | None) -> Task`, which ends in `build_task(Task(...))`,
and stands in the table `TASKS` of `fewtune.tasks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

IN_DOMAIN = "in_domain"
"""The name of the one test set that is in domain."""


@dataclass(frozen=True)
class Example:
    """One row: its texts by field name, and its label as an index (None where the label is withheld)."""

    row_id: str
    fields: Mapping[str, str]
    label: int | None
    facets: Mapping[str, str] = field(default_factory=dict)
    """Groups the row belongs to, by facet name (HANS: heuristic, subcase); never shown to a method."""

    def without_label(self) -> Example:
        """The same row as a method may see it when it must not know the label: no label, no facets."""
        return Example(self.row_id, self.fields, None)


@dataclass(frozen=True)
class Pattern:
    """Cloze text around an example, with one label word string for each label.

    `template` names text fields in braces and ends where the label word begins, without a trailing space:
    the label word brings its leading space (`label_words=(" bad", " good")`). `constrained`: of words of several tokens
    each token counts among those alone with which a label word goes on.
    """

    name: str
    template: str
    label_words: tuple[str, ...]
    constrained: bool = False


@dataclass(frozen=True)
class TestSet:
    """Named test rows, with their own label names where those differ from the task's.

    `label_of[i]` is the index in `labels` that a prediction of the task's label `i` counts as: HANS has two
    labels, so three-way MNLI's neutral and contradiction both count as non-entailment.
    A row's `label` is an index in `labels`.
    """

    name: str
    rows: tuple[Example, ...]
    labels: tuple[str, ...]
    label_of: tuple[int, ...]


@dataclass(frozen=True)
class RowsLeftOut:
    """How many rows of a file of training rows are not trained on, by why."""

    unfilled: int = 0
    """Without a text or a label."""
    repeated: int = 0
    """Of the text and the label of an earlier row."""
    contradictory: int = 0
    """Of a text that carries different labels."""
    tested: int = 0
    """Of a text that stands among the test rows."""


@dataclass(frozen=True)
class Task:
    """A classification problem with its rows loaded.

    `fields` are the text fields in reading order; `patterns[0]` is the default; `test_sets[0]` is in domain, and
    without rows where each draw holds out some of the training rows instead (`held_out`).
    `fingerprint` is a SHA-256 over every row id, text and label, so equal fingerprints mean equal data.
    """

    name: str
    source_url: str
    revision: int
    """Raised when the same files come to mean other rows, labels or patterns: it enters a trial's identity."""
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    primary_metric: str
    train: tuple[Example, ...]
    test_sets: tuple[TestSet, ...]
    fingerprint: str = ""
    """Left out by a task module: `build_task` computes it."""
    notes: tuple[str, ...] = ()
    """What the user should know about how the rows were read: rows left out and why, patterns derived."""
    held_out: float | None = None
    """Share of each label's training rows that each draw holds out, anew, as its test rows in domain."""
    left_out: RowsLeftOut = RowsLeftOut()
    """Of a user's own file; what a task module leaves out of its data set is told in its notes alone."""

    @cached_property
    def label_counts(self) -> Mapping[int | None, int]:
        """How many training rows each label has, by its index."""
        return Counter(row.label for row in self.train)


@dataclass(frozen=True)
class Draw:
    """One sample of a task's rows, the same for every method and model.

    `support` is labelled; `pool` comes from the training rows, shares none with the support, and its labels
    are withheld; `test_sets` hold the rows to be scored, with labels (the runner withholds them from methods).
    `fingerprint` is a SHA-256 over the row ids in order.
    """

    support: tuple[Example, ...]
    pool: tuple[Example, ...]
    test_sets: tuple[TestSet, ...]
    fingerprint: str
