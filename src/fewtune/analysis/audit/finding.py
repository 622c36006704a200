"""What a rule of the audit is given, and what it finds.

Owns the two shapes that all rules share. Does not know any rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fewtune.analysis.predictions import AnswerReader
from fewtune.plurals import pluralise
from fewtune.records import Record

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The gravest first. An error: the comparison is not what it says. A warning: do not conclude before it is mended or
explained. A note: worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `where` names it in words, `trials` are the ids of the trials it is about."""

    rule: str
    severity: Severity
    where: str
    reason: str
    remedy: str
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """A study's records and predictions; `missing` counts planned trials without a record, by variant.

    `uncounted` has the stopped trials whose looks are not told, by task and number of shots.
    """

    records: tuple[Record, ...]
    reader: AnswerReader
    missing: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[tuple[str, int], Sequence[Record]] = field(default_factory=dict)

    @property
    def done(self) -> list[Record]:
        """The records of trials that were scored."""
        return [record for record in self.records if record.status == "done"]


@dataclass(frozen=True)
class Rule:
    """One rule: `checks` says in a line what it looks for, `seen_in` where that went wrong before."""

    name: str
    checks: str
    seen_in: str
    find: Callable[[Evidence], Iterable[Finding]]


def format_where(record: Record) -> str:
    """Name a record's place in its study: 'lora · cola · opt-125m · 16 shots'."""
    return f"{record.trial.variant} · {format_group([record])}"


def format_group(members: Sequence[Record]) -> str:
    """Name what records that are compared share: 'cola · opt-125m · 16 shots'; those without a model join a model's."""
    axes = next((record for record in members if record.trial.model is not None), members[0]).trial
    return " · ".join(filter(None, [axes.task, axes.model, pluralise(axes.shots, "shot")]))


def ids_of(records: Iterable[Record]) -> tuple[str, ...]:
    return tuple(sorted({record.trial_id for record in records}))
