"""Counts the looks at a study's folder while it is locked.

Owns when the count begins, that no race's looks are lost by it, and the one look that a study without a race takes at
its end.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fewtune.analysis.looks import LEAST_LEVEL, choose_level, fingerprint_trials, name_outcome
from fewtune.analysis.uncounted import find_uncounted
from fewtune.errors import RecordError
from fewtune.inference.differences import FEWEST_DRAWS
from fewtune.records import (
    LOOKS,
    Cell,
    Look,
    LookHistory,
    Record,
    Status,
    list_written,
    load_looks,
    load_record,
    load_records,
    record_path,
    write_looks,
)
from fewtune.running.job import Job

Place = tuple[str, int]
"""A task's label and a number of shots: decided together."""


def begin_looks(out: Path, plan: Sequence[int], reused: Collection[Record]) -> LookHistory:
    """The folder's history; of one without any look, the plan, after the look that finished trials there have had.

    `plan` are the draws of each look that this study means to take. Where nothing is known of looks, trials that are
    there were looked at.
    """
    kept = load_looks(out)
    if kept is not None and kept.looks:
        return kept
    draws = len({record.trial.data_seed for record in reused}) if kept is None else 0
    if FEWEST_DRAWS <= draws < plan[0]:
        history = LookHistory(plan=(draws,))
        history = take_look(history, {name_outcome(r.trial_id, r.status): r.trial.cell for r in reused}, draws)
    else:
        history = LookHistory(plan=tuple(plan))
    write_looks(out, history)
    return history


def check_counted(out: Path, planned: Iterable[str]) -> None:
    """Raise RecordError where a race stopped some of these trials, and its folder has no file of looks any more.

    The same race takes its looks anew; what runs without one would be looked at as if for the first time.
    """
    if load_looks(out) is None and find_uncounted(_load_readable(out, planned), None, False):
        raise RecordError(
            f"{out / LOOKS}: gone, and a race stopped trials there: how much of the error its looks spent is not "
            "known. Put a copy of the file back, or run the race again (`until`): it takes its looks anew."
        )


def _load_readable(out: Path, trial_ids: Iterable[str]) -> Iterator[Record]:
    """The records of these trials that can be read: of the others, whoever opens the folder tells."""
    for trial_id in trial_ids:
        if record_path(out, trial_id).is_file():
            with contextlib.suppress(RecordError):
                yield load_record(record_path(out, trial_id))


def plan_no_look(out: Path, plan: Sequence[int]) -> None:
    """Write down that looks at a part of a study are not counted, where nothing is known of looks."""
    if load_looks(out) is None:
        write_looks(out, LookHistory(plan=tuple(plan)))


def make_look(draws: int, cells: Mapping[str, Cell], stopped: Mapping[str, str] | None = None) -> Look:
    """A look after so many draws at trials of one task and number of shots, its level still to be chosen.

    `cells` are by the trials' outcomes (`name_outcome`); `stopped` gives the methods that no longer run, with reasons.
    """
    first = next(iter(cells.values()))
    return Look(
        task=first.task,
        shots=first.shots,
        draws=draws,
        methods=len({(cell.variant, cell.model) for cell in cells.values()}),
        trials=fingerprint_trials(cells),
        level=LEAST_LEVEL,
        stopped=stopped or {},
    )


def note_look(history: LookHistory, look: Look) -> LookHistory:
    """The history with a look; one at the same trials is replaced where it stands."""
    same = history.find(look)
    if same is None:
        return history.model_copy(update={"looks": (*history.looks, look)})
    return history.model_copy(update={"looks": tuple(look if each is same else each for each in history.looks)})


def take_look(history: LookHistory, cells: Mapping[str, Cell], draws: int, is_last: bool = False) -> LookHistory:
    """The history after a look at the trials of these cells, by `name_outcome`; the same where they were looked at.

    At one draw nothing can be told, and nothing is spent.
    """
    if draws < FEWEST_DRAWS:
        return history
    for place in dict.fromkeys((cell.task, cell.shots) for cell in cells.values()):
        members = {outcome: cell for outcome, cell in cells.items() if (cell.task, cell.shots) == place}
        look = make_look(draws, members)
        look = look.model_copy(update={"level": choose_level(history, look, is_last)})
        # Looks of before 2026-12 at a study's end were at ids alone.
        as_before = look.model_copy(update={"trials": fingerprint_trials(name.split()[0] for name in members)})
        if history.find(look) is None and history.find(as_before) is None:
            history = note_look(history, look)
    return history


def look_at_end(
    history: LookHistory,
    jobs: Sequence[Job],
    cells: Mapping[str, Cell],
    seeds: Sequence[int],
    have: Mapping[str, Status],
) -> LookHistory:
    """The history after a look at each task and number of shots, at the draws that all its methods have by now.

    `have` says what came of the trials that are there, by their ids. A look at fewer draws than the whole is the last
    that is planned, and none where they are no more than were looked at before.
    """
    places: dict[Place, list[Job]] = defaultdict(list)
    for job in jobs:
        places[cells[job.trial_id].task, cells[job.trial_id].shots].append(job)
    for place, members in places.items():
        draws = count_whole(members, cells, seeds, have)
        before = max((look.draws for look in history.of(*place)), default=FEWEST_DRAWS - 1)
        if draws == len(seeds) or draws > before:
            drawn = set(seeds[:draws])
            seen = [job for job in members if job.trial.data_seed in drawn and job.trial_id in have]
            looked_at = {name_outcome(job.trial_id, have[job.trial_id]): cells[job.trial_id] for job in seen}
            history = take_look(history, looked_at, draws, is_last=draws < len(seeds))
    return history


def look_at_whole(out: Path, planned: Collection[str], seeds: Sequence[int]) -> None:
    """Write down a look at all planned trials of a folder, by their ids, where each of them is there; else none."""
    found = {record.trial_id: record for record in load_records(out)} if list_written(out) else {}
    if found.keys() >= set(planned):
        records = [found[trial_id] for trial_id in planned]
        write_looks(out, look_at_all(begin_looks(out, [len(seeds)], ()), records, seeds))


def look_at_all(history: LookHistory, records: Iterable[Record], seeds: Sequence[int]) -> LookHistory:
    """The history after a look at all trials of each task and number of shots, at as many draws as it has.

    `seeds` are the study's data seeds in order.
    """
    number = {seed: draws for draws, seed in enumerate(seeds, start=1)}
    places: dict[Place, list[Record]] = defaultdict(list)
    for record in records:
        places[record.trial.task, record.trial.shots].append(record)
    for members in places.values():
        outcomes = {name_outcome(record.trial_id, record.status): record.trial.cell for record in members}
        draws = max(number.get(record.trial.data_seed, len(seeds)) for record in members)
        history = take_look(history, outcomes, draws)
    return history


def count_whole(jobs: Iterable[Job], cells: Mapping[str, Cell], seeds: Sequence[int], have: Collection[str]) -> int:
    """The draws, from the first on, of which all these trials are there, those of methods without any apart.

    `have` are the ids of the trials that are there.
    """
    jobs = list(jobs)
    begun = {cells[job.trial_id] for job in jobs if job.trial_id in have}
    if not begun:
        return 0
    lacking = {job.trial.data_seed for job in jobs if job.trial_id not in have and cells[job.trial_id] in begun}
    return next((count for count, seed in enumerate(seeds) if seed in lacking), len(seeds))
