"""Looks: at how many draws a race looks at its methods, and what share of the error each look may spend.

Owns both plans. A bound that may be wrong in 5 % of studies when it is looked at once is wrong more often when it is
looked at until it pleases. So the error is spent over the looks, and never comes to more than that in all: the planned
ones share `PLANNED_SHARE` of it, the more draws the more (the spending function of Pocock's type, Lan and DeMets 1983,
https://doi.org/10.1093/biomet/70.3.659); `UNCOUNTED_SHARE` is for whoever looks at a study under way, after every draw
if they like; each look beyond the plan spends half of what is left.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from fewtune.inference.better import LEVEL
from fewtune.records import Look, LookHistory, Record, Status

LOOKS = (3, 5, 8, 12, 20)
"""Draws at which a race looks, where it does not end before."""
GROWTH = 1.6
"""How many times more draws each look beyond those has."""
PLANNED_SHARE = 0.8
"""Of the error, what the planned looks may spend: some is left for whoever adds draws afterwards."""
LEAST_LEVEL = 1e-12
"""Levels are not told apart below this."""
UNCOUNTED_SHARE = 0.1
"""Of the error, what looks may spend that nobody counts: a part for each planned draw."""


def plan_looks(most: int) -> tuple[int, ...]:
    """The draws of each look of a race that has so many at the most."""
    looks = list(LOOKS)
    while looks[-1] < most:
        looks.append(math.ceil(looks[-1] * GROWTH))
    return (*(draws for draws in looks if draws < most), most)


def plan_further_looks(history: LookHistory, most: int) -> tuple[int, ...]:
    """The draws of each look of a race that has so many at the most, in a folder that was looked at so.

    Those of the folder's plan as far as looks were taken, then a race's own; the last is at all draws.
    """
    taken = max((look.draws for look in history.looks), default=0)
    before = [draws for draws in history.plan if draws <= taken]
    later = [draws for draws in plan_looks(most) if draws > taken]
    return (*(draws for draws in (*before, *later) if draws < most), most)


def keep_looked_at(records: Sequence[Record], looks: LookHistory | None, seeds: Sequence[int]) -> list[Record]:
    """The records that the last look at their task and number of shots was of; all where looks are not counted.

    `seeds` are the study's data seeds in order: a look is at the first so many. Draws beyond it are half run, or would
    be looked at uncounted. Where no look was at these records, it is the draws that all methods have by now, if they
    are as many as the last look had.
    """
    if looks is None:
        return list(records)
    beyond: dict[tuple[str, int], set[int]] = {}
    for place, members in _split_places(records).items():
        last, taken, half_run = find_look(looks, members, seeds), looks.of(*place), _find_half_run(members)
        common = {record.trial.data_seed for record in members} - half_run
        if last is None and taken and len(common) < taken[-1].draws:
            # A method was added that has few draws yet. (With as many, draws may have come before those looked at.)
            last = taken[-1]
        beyond[place] = half_run if last is None else set(seeds[last.draws :])
    return [r for r in records if r.trial.data_seed not in beyond[r.trial.task, r.trial.shots]]


def find_look(history: LookHistory | None, records: Sequence[Record], seeds: Sequence[int]) -> Look | None:
    """The last look that was at these records, of one task and number of shots; None where none was.

    A race that was run again with a larger tolerance ends sooner: later looks were at records that it no longer has.
    """
    taken = history.of(records[0].trial.task, records[0].trial.shots) if history is not None and records else ()
    return next((look for look in reversed(taken) if _is_at(look, records, seeds)), None)


def _split_places(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """The records of each task and number of shots."""
    places: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        places[record.trial.task, record.trial.shots].append(record)
    return places


def _find_half_run(records: Sequence[Record]) -> set[int]:
    """The data seeds that some methods have and others lack, failed and skipped methods apart; none where all do."""
    have: dict[tuple[str, str | None], set[int]] = {}
    unable = {(r.trial.variant, r.trial.model) for r in records if r.status != "done"}
    for record in records:
        name = record.trial.variant, record.trial.model
        if name not in unable:
            have.setdefault(name, set()).add(record.trial.data_seed)
    common = set.intersection(*have.values()) if have else set()
    return {record.trial.data_seed for record in records} - common if common else set()


def spend_by(draws: float, most: int, level: float) -> float:
    """What looks up to so many draws, of the plan's most, may have spent together."""
    return level * PLANNED_SHARE * math.log1p((math.e - 1) * min(1.0, draws / most))


def spend_beyond(spent: Sequence[float], level: float) -> float:
    """The level of one look beyond the plan, given those of all looks before."""
    return max(LEAST_LEVEL, ((1 - UNCOUNTED_SHARE) * level - math.fsum(spent)) / 2)


def fingerprint_trials(trial_ids: Iterable[str]) -> str:
    """What tells the trials of one look from those of another."""
    return hashlib.sha256("\n".join(sorted(trial_ids)).encode()).hexdigest()[:16]


def name_outcome(trial_id: str, status: Status) -> str:
    """A trial's id, with what came of it where it was not done: run after all, it is another trial to a look."""
    return trial_id if status == "done" else f"{trial_id} {status}"


def find_levels(
    history: LookHistory | None, records: Iterable[Record], seeds: Sequence[int]
) -> dict[tuple[str, int], float]:
    """The level at which each task and number of shots is judged: that of the last look at these trials.

    The whole error where looks are not counted; where none was taken, or at others, what a look that is not counted may
    spend. `seeds` are the study's data seeds in order.
    """
    return {place: _find_level(history, members, seeds) for place, members in _split_places(records).items()}


def _find_level(history: LookHistory | None, records: Sequence[Record], seeds: Sequence[int]) -> float:
    if history is None:
        return LEVEL
    look = find_look(history, records, seeds)
    return look.level if look is not None else LEVEL * UNCOUNTED_SHARE / max(history.plan[-1], len(seeds))


def find_earlier(history: LookHistory | None, records: Sequence[Record], seeds: Sequence[int]) -> list[Look]:
    """The looks before the last one at these records, of one task and number of shots: at some of the same trials."""
    last = find_look(history, records, seeds)
    if history is None or last is None:
        return []
    taken = history.of(last.task, last.shots)
    return [look for look in taken if look.draws < last.draws and _is_at(look, records, seeds)]


def _is_at(look: Look, records: Sequence[Record], seeds: Sequence[int]) -> bool:
    """Whether a look was at these records; by how many methods there are, where it does not say at which trials."""
    if not look.trials or not seeds:
        return look.methods == len({(record.trial.variant, record.trial.model) for record in records})
    drawn = set(seeds[: look.draws])
    present = [record for record in records if record.trial.data_seed in drawn]
    outcomes = [name_outcome(record.trial_id, record.status) for record in present]
    done = [record.trial_id for record in present if record.status == "done"]  # from before looks were counted
    every = [record.trial_id for record in present]  # from before 2026-12
    return look.trials in {fingerprint_trials(names) for names in (outcomes, done, every)}


def foresee_level(history: LookHistory, task: str, shots: int) -> float:
    """The level of the look that would follow those taken: the first of the plan, the next, or one beyond it."""
    taken = history.of(task, shots)
    if not taken:
        return spend_by(history.plan[0], history.plan[-1], LEVEL)
    last = taken[-1]
    draws = next((draws for draws in history.plan if draws > last.draws), last.draws + 1)
    return choose_level(history, last.model_copy(update={"draws": draws}))


def level_round(history: LookHistory, look: Look, before: float, now: float, is_last: bool) -> float:
    """What the bounds of one of many rounds may spend, each of which may be the last that is seen.

    `before` and `now` are the mean draws of a method at the round before and at this one: the share of the error goes
    by them. The last round of a race that a budget ends, whatever was seen, spends all that the plan has left, or as a
    look beyond it does. Rounds that were looked at before keep their level.
    """
    same = history.find(look)
    if same is not None and not is_last:
        return same.level
    most = history.plan[-1]
    spent = [other.level for other in history.of(look.task, look.shots) if other is not same]
    until = spend_by(most if is_last else now, most, LEVEL)
    share = min(until - spend_by(before, most, LEVEL), until - math.fsum(spent))
    return max(share, spend_beyond(spent, LEVEL) if is_last else LEAST_LEVEL)


def choose_level(history: LookHistory, look: Look, is_last: bool = False) -> float:
    """What a look, its level not yet known, may spend: as before, its share of the plan, or half of what is left.

    The plan's shares go by draws. The last look of a race that ends before its plan does, whatever was seen, spends all
    that the plan has left; where it is at what was looked at last, that look spends it.
    """
    same = history.find(look)
    if same is not None and not is_last:
        return same.level
    taken = [other for other in history.of(look.task, look.shots) if other is not same]
    spent = [other.level for other in taken]
    most = history.plan[-1]
    share = spend_by(most if is_last else look.draws, most, LEVEL) - math.fsum(spent)
    if look.draws <= most and all(other.draws < look.draws for other in taken) and share > LEAST_LEVEL:
        return share if same is None else max(share, same.level)
    return spend_beyond(spent, LEVEL) if same is None else same.level
