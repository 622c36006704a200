"""Says which settings tuning chose and which penalties regressions chose, a line for each method and group.

Owns the sentences. Does not know how settings or penalties are chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import fmean

from fewtune.analysis.leaderboard import saw_unlabelled
from fewtune.plurals import pluralise
from fewtune.records import PenaltyNotes, Record, TuningNotes
from fewtune.report.wording import mark_unlabelled


def list_choices(records: Iterable[Record]) -> list[str]:
    """One line for each tuned variant of each task, model and shots, with how often each was chosen and its cost."""
    return [_format_choices(trials) for trials in _group(records, lambda record: record.notes.tuning is not None)]


def list_penalties(records: Iterable[Record]) -> list[str]:
    """One line for each variant of each task, model and shots whose regressions chose their penalty themselves."""
    return [_format_penalties(trials) for trials in _group(records, lambda record: record.notes.penalty is not None)]


def _group(records: Iterable[Record], belongs: Callable[[Record], bool]) -> list[list[Record]]:
    """The trials that were done and belong, by variant, task, model and shots."""
    groups: dict[tuple[str, str, str | None, int], list[Record]] = {}
    for record in records:
        if record.status == "done" and belongs(record):
            axes = record.trial
            groups.setdefault((axes.variant, axes.task, axes.model, axes.shots), []).append(record)
    return list(groups.values())


def _format_choices(trials: list[Record]) -> str:
    tuned: list[TuningNotes] = [notes for record in trials if (notes := record.notes.tuning) is not None]
    picks = _count([", ".join(f"{key} {value}" for key, value in notes.chosen.items()) for notes in tuned])
    failed = sum(each.failure is not None for notes in tuned for each in notes.tried)
    lost = f" ({failed} of {sum(len(notes.tried) for notes in tuned)} failed)" if failed else ""
    return (
        f"{_name(trials)}: {picks}. {pluralise(len(tuned[0].tried), 'setting')} x {tuned[0].folds} folds{lost}: "
        f"{fmean(notes.seconds for notes in tuned):.0f} s of each fit."
    )


def _format_penalties(trials: list[Record]) -> str:
    chosen: list[PenaltyNotes] = [notes for record in trials if (notes := record.notes.penalty) is not None]
    picks = _count([f"inverse_penalty {notes.inverse_penalty:g}" for notes in chosen])
    unable = sum(not notes.tried for notes in chosen)
    usual = f" It is the usual one in {unable} of {len(chosen)}, where no two rows could be held out." if unable else ""
    return f"{_name(trials)}: {picks}.{usual}"


def _count(choices: list[str]) -> str:
    """What was chosen and how often, the commonest first."""
    return "; ".join(f"{words} ({count} of {len(choices)})" for words, count in Counter(choices).most_common())


def _name(trials: list[Record]) -> str:
    axes = trials[0].trial
    name = mark_unlabelled(axes.variant, any(map(saw_unlabelled, trials)))
    return " · ".join(part for part in (name, axes.task, axes.model, pluralise(axes.shots, "shot")) if part)
