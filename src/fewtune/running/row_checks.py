"""Checks that a task has enough rows for a study's shots, pool, folds and held-out rows.

Owns these checks, which come before any trial, and which draws to take where some cannot be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fewtune.errors import DataError
from fewtune.methods.held_out import hold_out
from fewtune.running.tune import check_folds, split_folds
from fewtune.study import MethodChoice, Study
from fewtune.tasks.base import Example, Task
from fewtune.tasks.draw import Sampling, check_sampling, make_draw

MOST_SEEDS_TRIED = 200
"""Data seeds that are looked through for draws that hold every label."""


def check_rows(study: Study, task: Task) -> None:
    """Raise DataError where a task has too few rows for a study's shots, pool or folds."""
    by_chance = study.sampling == "natural"
    sampling = Sampling(
        min(study.shots),
        per_class=study.shots_per == "class",
        balanced=study.sampling == "balanced",
        stratified=study.sampling == "stratified",
        pool_rows=study.pool_rows,
        in_domain_rows=1,
        out_of_domain_rows=1,
    )
    for shots in study.shots:
        check_sampling(task, replace(sampling, shots=shots))
    # Supports nest over shots: the smallest has the fewest rows of every label. Where that is not left to chance, draws
    # hold as many rows of a label whatever the seed: one tells of all.
    split = study.data_seeds[:1] if study.tuning is not None or any(map(_list_held_out, study.methods)) else ()
    unusable: dict[int, DataError] = {}
    for data_seed in study.data_seeds if by_chance else split:
        try:
            _check_draw(study, task, sampling, data_seed)
        except DataError as error:
            if not by_chance:
                raise
            unusable[data_seed] = error
    if unusable:
        raise DataError(_format_unusable(study, task, sampling, unusable))


def _check_draw(study: Study, task: Task, sampling: Sampling, data_seed: int) -> None:
    """Raise DataError where a data seed gives no draw, or one whose support cannot be split as is asked."""
    draw = make_draw(task, sampling, data_seed)
    if study.tuning is not None:
        check_folds(task, draw.support, study.tuning.folds)
    for method in study.methods:
        failed: list[DataError] = []
        shares = _list_held_out(method)
        supports = _list_supports(study, method, draw.support) if shares else []
        for share in shares:
            try:
                for support in supports:
                    hold_out(support, share, np.random.default_rng(0))
            except DataError as error:
                failed.append(error)
        if failed and len(failed) == len(method.candidates):  # tuning leaves out a candidate that fails
            raise DataError(f"{method.variant}: {failed[0]}")


def _list_supports(study: Study, method: MethodChoice, support: Sequence[Example]) -> list[Sequence[Example]]:
    """What a method is fitted on: the support, and where it is tuned what each fold leaves of it."""
    if study.tuning is None or len(method.candidates) < 2:
        return [support]
    parts = [{row.row_id for row in part} for part in split_folds(support, study.tuning.folds)]
    return [support, *([row for row in support if row.row_id not in part] for part in parts)]


def _list_held_out(method: MethodChoice) -> list[float]:
    """The share of its support that each of a method's candidates would hold out to choose an epoch by, if any."""
    return list(filter(None, (each.get("validation_fraction", 0.0) for each in method.candidates)))


def _format_unusable(study: Study, task: Task, sampling: Sampling, unusable: Mapping[int, DataError]) -> str:
    """Say which data seeds give no draw, and name as many that do, the study's own first."""
    first, *_ = unusable.values()
    wanted = len(study.data_seeds)
    sound = [seed for seed in study.data_seeds if seed not in unusable]
    for data_seed in range(MOST_SEEDS_TRIED):
        if len(sound) == wanted:
            break
        if data_seed not in study.data_seeds:
            with contextlib.suppress(DataError):
                _check_draw(study, task, sampling, data_seed)
                sound.append(data_seed)
    if len(sound) < wanted:
        return str(first)
    return f"{first} So it is with data seeds {list(unusable)}; with these all is there: data_seeds: {sound}."
