"""The looks at a study's folder, counted while it is held.

Owns when the count begins, and the one look that a study without a race takes at its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from fewtune.analysis.looks import choose_level
from fewtune.analysis.statistics import LEAST_LEVEL
from fewtune.records import Cell, Look, LookHistory, Record, load_looks, write_looks
from fewtune.running.job import Job

Place = tuple[str, int]
"""A task's label and a number of shots: decided together."""


def begin_looks(out: Path, plan: Sequence[int], reused: Collection[Record]) -> LookHistory:
    """The folder's history; of one without any, the plan, after the look that finished trials there have had.

    `plan` are the draws of each look that this study means to take.
    """
    kept = load_looks(out)
    if kept is not None:
        return kept
    draws = len({record.trial.data_seed for record in reused})
    if 0 < draws < plan[0]:
        history = LookHistory(plan=(draws,))
        history = take_look(history, {r.trial_id: r.trial.cell for r in reused}, draws)
    else:
        history = LookHistory(plan=tuple(plan))
    write_looks(out, history)
    return history


def make_look(
    history: LookHistory,
    draws: int,
    cells: Mapping[str, Cell],
    stopped: Mapping[str, str] | None = None,
    is_last: bool = False,
) -> Look:
    """A look after so many draws at trials of one task and number of shots, by their ids, at the level it may spend.

    `stopped` gives the methods that no longer run, each with the reason; `is_last`: a budget leaves no more draws.
    """
    first = next(iter(cells.values()))
    look = Look(
        task=first.task,
        shots=first.shots,
        draws=draws,
        methods=len({(cell.variant, cell.model) for cell in cells.values()}),
        trials=hashlib.sha256("\n".join(sorted(cells)).encode()).hexdigest()[:16],
        level=LEAST_LEVEL,
        stopped=stopped or {},
    )
    return look.model_copy(update={"level": choose_level(history, look, is_last)})


def note_look(history: LookHistory, look: Look) -> LookHistory:
    """The history with a look; one at the same trials is replaced where it stands."""
    same = history.find(look)
    if same is None:
        return history.model_copy(update={"looks": (*history.looks, look)})
    return history.model_copy(update={"looks": tuple(look if each is same else each for each in history.looks)})


def take_look(history: LookHistory, cells: Mapping[str, Cell], draws: int, is_last: bool = False) -> LookHistory:
    """The history after a look at the trials of these cells; the same where they were looked at before."""
    for place in dict.fromkeys((cell.task, cell.shots) for cell in cells.values()):
        members = {trial_id: cell for trial_id, cell in cells.items() if (cell.task, cell.shots) == place}
        look = make_look(history, draws, members, is_last=is_last)
        if history.find(look) is None:
            history = note_look(history, look)
    return history


def count_whole(jobs: Iterable[Job], seeds: Sequence[int], have: Collection[str]) -> int:
    """The draws, from the first on, of which all these trials are there; `have` are the ids of those that are."""
    lacking = {job.trial.data_seed for job in jobs if job.trial_id not in have}
    return next((count for count, seed in enumerate(seeds) if seed in lacking), len(seeds))
