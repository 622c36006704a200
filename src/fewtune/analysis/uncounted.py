"""Detects looks of a race that its folder does not count: the file is missing, edited, or was left out by a merge.

Owns where that is so, and what bounds rest on there. What a look may spend is `looks`'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fewtune.analysis.looks import plan_looks
from fewtune.analysis.recommend import name_contender
from fewtune.records import LookHistory, Record

Uncounted = Mapping[tuple[str, int], Sequence[Record]]
"""By task and number of shots, the trials that were stopped at looks that are not told."""


def find_uncounted(records: Iterable[Record], looks: LookHistory | None, races: bool) -> Uncounted:
    """Where looks are not told that must have been taken: at trials that a race stopped, by no look that is there.

    A look that stops a method names it, and is at draws that the method has. `looks` are the folder's, None where it
    has none; `races`: its study is one. Then such looks are missed wherever it has trials, for a race may end before
    any method stops.
    """
    methods: dict[tuple[str, int, str, str | None], list[Record]] = defaultdict(list)
    for record in records:
        axes = record.trial
        methods[axes.task, axes.shots, axes.variant, axes.model].append(record)
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for (task, shots, variant, model), trials in methods.items():
        stopped = [record for record in trials if record.status == "stopped"]
        draws = len({record.trial.data_seed for record in trials if record.status != "stopped"})
        names = {name_contender(variant, model, several) for several in (False, True)}
        told = looks.of(task, shots) if looks is not None else ()
        if stopped and not any(look.draws <= draws and names & look.stopped.keys() for look in told):
            found[task, shots] += stopped
        elif races and looks is None:
            found.setdefault((task, shots), [])
    return found


def keep_counted(looks: LookHistory | None, uncounted: Uncounted, draws: int) -> LookHistory | None:
    """The looks that bounds may rest on: none where some are not told, so that a look there is one nobody counts.

    That spends what is set aside for such looks alone, and holds whatever the others spent. `draws` are the study's.
    """
    if not uncounted:
        return looks
    if looks is None:
        return LookHistory(plan=plan_looks(draws))
    plan = looks.plan if looks.plan[-1] >= draws else (*looks.plan, draws)
    return LookHistory(plan=plan, looks=tuple(look for look in looks.looks if (look.task, look.shots) not in uncounted))
