"""The looks at a study's folder, counted while it is held.

Owns when the count begins, and the one look that a study without a race takes at its end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fewtune.analysis.looks import choose_level
from fewtune.analysis.statistics import LEAST_LEVEL
from fewtune.records import Cell, Look, LookHistory, Record, load_looks, write_looks

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
    place: Place,
    draws: int,
    methods: int,
    stopped: Mapping[str, str] | None = None,
    is_last: bool = False,
) -> Look:
    """A look at so many draws of so many methods, at the level that it may spend.

    `stopped` gives the methods that no longer run, each with the reason; a look `is_last` where a budget ends its race.
    """
    task, shots = place
    look = Look(task=task, shots=shots, draws=draws, methods=methods, level=LEAST_LEVEL, stopped=stopped or {})
    return look.model_copy(update={"level": choose_level(history, look, is_last)})


def note_look(history: LookHistory, look: Look) -> LookHistory:
    """The history with a look; one at the same draws and methods is replaced where it stands."""
    looks = {(each.task, each.shots, each.draws, each.methods): each for each in history.looks}
    looks[look.task, look.shots, look.draws, look.methods] = look
    return history.model_copy(update={"looks": tuple(looks.values())})


def take_look(history: LookHistory, cells: Mapping[str, Cell], draws: int) -> LookHistory:
    """The history after a look at all trials of these cells; the same where they were looked at so before."""
    for place in dict.fromkeys((cell.task, cell.shots) for cell in cells.values()):
        methods = len({(cell.variant, cell.model) for cell in cells.values() if (cell.task, cell.shots) == place})
        if not any((other.draws, other.methods) == (draws, methods) for other in history.of(*place)):
            history = note_look(history, make_look(history, place, draws, methods))
    return history
