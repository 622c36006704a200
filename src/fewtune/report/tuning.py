"""Which settings tuning chose, in words: one line a method and group, with how often each was chosen and what it cost.

Owns the sentence. Does not know how settings are chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from fewtune.analysis.leaderboard import saw_unlabelled
from fewtune.plurals import word_number
from fewtune.records import Record
from fewtune.report.wording import mark_unlabelled


def list_choices(records: Iterable[Record]) -> list[str]:
    """One line for each tuned variant of each task, model and shots."""
    groups: dict[tuple[str, str, str | None, int], list[Record]] = {}
    for record in records:
        if record.status == "done" and record.notes.tuning is not None:
            axes = record.trial
            groups.setdefault((axes.variant, axes.task, axes.model, axes.shots), []).append(record)
    return [_word_choices(*key, trials) for key, trials in groups.items()]


def _word_choices(variant: str, task: str, model: str | None, shots: int, trials: list[Record]) -> str:
    tuned = [tuning for record in trials if (tuning := record.notes.tuning) is not None]
    chosen = Counter(", ".join(f"{key} {value}" for key, value in notes.chosen.items()) for notes in tuned)
    picks = "; ".join(f"{words} ({count} of {len(trials)})" for words, count in chosen.most_common())
    failed = sum(each.failure is not None for notes in tuned for each in notes.tried)
    lost = f" ({failed} of {sum(len(notes.tried) for notes in tuned)} failed)" if failed else ""
    name = mark_unlabelled(variant, any(map(saw_unlabelled, trials)))
    where = " · ".join(part for part in (name, task, model, word_number(shots, "shot")) if part)
    return (
        f"{where}: {picks}. {word_number(len(tuned[0].tried), 'setting')} x {tuned[0].folds} folds{lost}: "
        f"{fmean(notes.seconds for notes in tuned):.0f} s of each fit."
    )
