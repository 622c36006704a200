"""The learning curve of one file's method: what twice as many labelled rows would bring.

Owns where the curve is measured. It is a study like any other, and stays in its folder.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.analysis.answers import read_answers
from fewtune.analysis.growth import Growth, RowEffects, expect_growth
from fewtune.api import run_study
from fewtune.errors import DataError, FewtuneError
from fewtune.fitting.labelled_file import LabelledFile, name_study
from fewtune.inference.scores import score_with_effects
from fewtune.inference.unseen import look_at_score, measure_row_weight
from fewtune.tasks.base import IN_DOMAIN, Task
from fewtune.tasks.draw import Sampling, check_sampling, make_draw

if TYPE_CHECKING:
    from fewtune.records import Record
    from fewtune.report.results import StudyResult
    from fewtune.running.run_study import StudyEvent

CURVE_DRAWS = 3
"""Draws at each number of rows of a learning curve."""
APART = 0.25
"""Share of the rows that draws of a learning curve leave out, where test rows have a file of their own."""


def trace_growth(
    file: LabelledFile,
    method: str,
    model: str | None,
    settings: Mapping[str, Any],
    out: Path,
    on_event: Callable[[StudyEvent], None] = lambda event: None,
    max_tokens: int | None = None,
) -> Growth:
    """Fit a method on more and more of a file's rows, draw after draw; what twice as many are expected to bring.

    `model` is None for a method that uses none; `max_tokens` bounds one row's prompt, as in a study.

    Raises DataError where the rows allow no two sizes, FewtuneError where a trial failed.
    """
    task = file.read(hold_out=True)
    study: dict[str, Any] = {
        "name": f"{name_study(file.train)}-curve",
        "tasks": [{"own_files": {"as": name_study(file.train), **file.settings()}}],
        "methods": [{method: dict(settings)} if settings else method],
        "baselines": False,
        "shots": list(choose_sizes(task)),
        "sampling": "natural",
        "data_seeds": {"count": CURVE_DRAWS},
        "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 1},
    }
    study |= {} if model is None else {"models": [model]}
    study |= {} if max_tokens is None else {"max_tokens": max_tokens}
    result = run_study(study, out, on_event=on_event)
    done = [record for record in result.records if record.status == "done"]
    if len(done) < len(result.records):
        raise FewtuneError(f"a trial of the learning curve failed: `fewtune report {out}` says which and why.")
    scores: dict[int, list[float]] = {}
    for record in sorted(done, key=lambda record: record.trial.data_seed):
        scores.setdefault(record.trial.shots, []).append(record.metrics[IN_DOMAIN][record.primary_metric])
    rows = min(int(record.baselines[IN_DOMAIN]["rows"]) for record in done)
    by_rows = _find_row_effects([record for record in done if record.trial.shots == max(scores)], result)
    return expect_growth(scores, rows, _share_apart(task), task.held_out is None, by_rows)


def _find_row_effects(trials: Sequence[Record], result: StudyResult) -> RowEffects | None:
    """What the choice of test rows does to the trials' scores; None for accuracies, whose mean says it."""
    metric = trials[0].primary_metric
    if metric == "accuracy":
        return None
    [draws] = read_answers(trials, result.analysis.reader, [IN_DOMAIN]).values()
    answers = [sets[IN_DOMAIN] for sets in draws.values()]
    scored = [
        score_with_effects(each.gold.astype(np.int64), each.predicted.astype(np.int64), each.labels, metric)
        for each in answers
    ]
    return RowEffects(
        variance=fmean(float((effects**2).sum()) for _, effects in scored),
        weight=max(look_at_score(measure_row_weight(each, metric)).weight for each in answers),
    )


def choose_sizes(task: Task) -> tuple[int, ...]:
    """Numbers of rows for a learning curve, each draw's with the file's shares of the labels.

    The most leaves a quarter of the rows to other draws; a half and a quarter of that follow, where two rows of each
    label can be among them. Raises DataError where there are too few rows for two sizes.
    """
    counts = Counter(row.label for row in task.train)
    most = sum(count - math.ceil(count * _share_apart(task)) for count in counts.values())
    least = max(2 * len(task.labels), math.ceil(2 * len(task.train) / min(counts.values())))
    sizes = tuple(size for size in (most // 4, most // 2, most) if size >= least and _can_be_drawn(task, size))
    if len(sizes) < 2:
        raise DataError(
            f"{len(task.train)} rows, {min(counts.values())} of the rarest of {len(task.labels)} labels, are too few "
            "for a learning curve: half of what a draw may take has to hold two rows of each label. Give more rows, or "
            "leave --curve out."
        )
    return sizes


def _can_be_drawn(task: Task, size: int) -> bool:
    """Whether every draw of so many rows holds every label."""
    sampling = Sampling(size, balanced=False, in_domain_rows=1, out_of_domain_rows=1)
    try:
        check_sampling(task, sampling)
        for seed in range(CURVE_DRAWS):
            make_draw(task, sampling, seed)
    except DataError:
        return False
    return True


def _share_apart(task: Task) -> float:
    """The share of rows that a draw does not fit on, so that draws differ."""
    return APART if task.held_out is None else task.held_out
