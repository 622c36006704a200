"""Runs an excerpt of a trial for a forecast: a few steps of its fit, a few rows of each test set.

Owns what is run of it, and how seconds and memory of the whole are worked out from that. The record of an excerpt has
no scores and is never one of a study's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.engine.score_cache import saved_seconds
from fewtune.methods import get_method
from fewtune.records import Failure, Record
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.cost import count_cost
from fewtune.running.job import Job, Progress
from fewtune.running.scoring import MOST_REFERENCE_ROWS, score_blindly, tabulate
from fewtune.running.trial_inputs import Loaded, load_trial, name_axes
from fewtune.running.trial_metadata import describe_axes, describe_environment, failed_record, fingerprint_models
from fewtune.running.worker import WorkerState
from fewtune.study import build_settings
from fewtune.study.grid import Trial
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import TestSet

if TYPE_CHECKING:
    import polars as pl

    from fewtune.engine.fitting import FitExample, Fitting
    from fewtune.engine.meter import Meter
    from fewtune.methods.plan import Plan

WARM_STEPS = 3
"""The first steps of a fit take longer: memory is allocated (the optimiser's too, by the second step), and each row
runs through frozen blocks once. An excerpt fits on the rows of so many steps again and again: the last of them tells
the pace of new rows, later ones that of all others.
"""
WHOLE_MEMORY = 1.08
"""What a whole trial holds, over its excerpt: the longer it runs, the more pieces freed memory is in."""
SCORING_SECONDS = 3.0
"""How long rows are scored at the least, while there are rows: the pace of one second alone may be a quarter off."""
FORWARD_SHARE = 1 / 3
"""Of a step's time: a row that is held out runs forward only."""


class _Steps:
    """The steps of a fit, timed."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: list[float] = []

    def take(self, step: int, steps: int, loss: float) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def run_excerpt(
    job: Job, state: WorkerState, on_progress: Callable[[Progress], None], meter: Meter
) -> tuple[Record, pl.DataFrame | None]:
    """Run an excerpt of a trial; its record has what the whole would take, its table a few rows as they are kept.

    Tokens alone are those that the excerpt ran.
    """
    from fewtune.engine.meter import Span

    assert job.excerpt is not None
    if job.skip_reason is not None:
        return failed_record(job, Failure(kind="skipped", message=job.skip_reason), None, state.options), None
    on_progress(Progress("loading"))
    loaded = load_trial(job, state, meter)
    on_progress(Progress("measuring its fit"))
    with meter.phase("prepare") as preparing:
        plan = _make_plan(job.trial, loaded)
    with meter.phase("fit") as fitting:
        steps = _fit_some(plan, job.excerpt.steps)
        plan = plan.finish()
    on_progress(Progress("measuring its answers"))
    with meter.phase("score") as scoring:
        score_seconds, pace, table = _score_some(plan, loaded, job.excerpt.rows)
    fit_seconds = 0.0 if plan.fitting is None else _project_fit(plan.fitting, steps)
    tune_seconds = _project_tuning(job.trial, len(loaded.draw.support), preparing.seconds, fit_seconds, pace)
    whole_fit = preparing.seconds + fit_seconds + tune_seconds
    spent = Span(whole_fit, fitting.tokens), Span(score_seconds, scoring.tokens)
    cost = count_cost(loaded, plan, *spent, meter)
    if cost.resident_memory_bytes is not None:
        cost = cost.model_copy(update={"resident_memory_bytes": round(WHOLE_MEMORY * cost.resident_memory_bytes)})
    record = Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial),
        status="done",
        labels=list(loaded.task.labels),
        primary_metric=loaded.task.primary_metric,
        cost=cost,
        environment=describe_environment(job, state.options),
        fingerprints=fingerprint_models(job),
        phase_seconds={
            "tune": tune_seconds,
            "prepare": preparing.seconds,
            "fit": fit_seconds,
            "score": score_seconds,
        },
    )
    return record, table


def _make_plan(trial: Trial, loaded: Loaded) -> Plan:
    method = get_method(trial.method.name)
    settings: Any = build_settings(method.settings, dict(trial.settings))
    rng = make_rng("fit", *name_axes(trial, loaded.task))
    return make_plan(method, settings, loaded.model, loaded.task, loaded.draw, rng)


def _fit_some(plan: Plan, most: int) -> Sequence[float]:
    """Run some steps of a plan's fit, with all that trains unfrozen; the seconds of each.

    Two more follow on the longest rows, with the optimiser's moments and the weights that a validation set keeps: the
    most memory that the whole holds.
    """
    if plan.fitting is None:
        return ()
    steps = _Steps()
    few = _choose_rows(plan.fitting)
    passes = plan.fitting.optimisation.count_passes(len(plan.fitting.examples))
    whole = math.ceil(len(plan.fitting.examples) / plan.fitting.optimisation.batch_size) * passes
    excerpt = _shorten(plan.fitting, few, min(most, math.ceil(whole)))
    fit_plan(replace(plan, fitting=replace(excerpt, validation=())), np.random.default_rng(0), steps.take)
    longest = sorted(plan.fitting.examples, key=_count_tokens)[-plan.fitting.optimisation.batch_size :]
    fit_plan(replace(plan, fitting=_shorten(plan.fitting, longest, min(2, math.ceil(whole)))), np.random.default_rng(0))
    return steps.seconds


def _shorten(fitting: Fitting, examples: Sequence[FitExample], steps: int) -> Fitting:
    return replace(
        fitting,
        groups=tuple(replace(group, starts_at_epoch=0) for group in fitting.groups),
        options=replace(fitting.options, losses_at_once=1),
        examples=tuple(examples),
        optimisation=replace(fitting.optimisation, steps=steps),
    )


def _choose_rows(fitting: Fitting) -> list[FitExample]:
    """The rows of `WARM_STEPS` steps, spread over all lengths; all where there are no more."""
    rows = sorted(fitting.examples, key=_count_tokens)
    count = min(len(rows), WARM_STEPS * fitting.optimisation.batch_size)
    return [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]


def _count_tokens(example: FitExample) -> int:
    return len(example.prompt) + len(example.other)


@dataclass(frozen=True)
class _Pace:
    """Seconds that a call that scores rows takes, whatever its rows, and seconds a row."""

    a_call: float
    a_row: float


def _project_tuning(trial: Trial, shots: int, prepare: float, fit: float, pace: _Pace) -> float:
    """What choosing from the candidates takes: each is prepared, fitted and asked of the rows held out, fold by fold.

    `prepare` and `fit` are the seconds of the whole support's; nothing where there is no tuning.
    """
    if trial.tuning is None:
        return 0.0
    folds = trial.tuning.folds
    one = prepare + fit * (folds - 1) / folds + pace.a_call + pace.a_row * shots / folds
    return len(trial.candidates) * folds * one


def _project_fit(fitting: Fitting, seconds: Sequence[float]) -> float:
    """What all steps take: some as they ran, the rest at the pace of these."""
    rows, size = len(fitting.examples), fitting.optimisation.batch_size
    epochs = fitting.optimisation.count_passes(rows)
    chosen = len(_choose_rows(fitting))
    batches = [min(size, chosen - start) for start in range(0, chosen, size)]
    ran = [(batches[place % len(batches)], each) for place, each in enumerate(seconds)]
    later = ran[WARM_STEPS:] or ran
    pace = sum(each for _, each in later) / sum(count for count, _ in later)
    new_pace = max(pace, ran[WARM_STEPS - 1][1] / ran[WARM_STEPS - 1][0]) if len(ran) >= WARM_STEPS else pace
    done = sum(count for count, _ in ran)
    new = max(0.0, min(rows, epochs * rows) - min(chosen, done))
    left = epochs * rows - done - new  # below 0 where rows ran again that a short fit sees once
    return sum(seconds) + new_pace * new + pace * (left + FORWARD_SHARE * epochs * len(fitting.validation))


def _score_some(plan: Plan, loaded: Loaded, most: int) -> tuple[float, _Pace, pl.DataFrame]:
    """What scoring all test rows takes, by a few of each set, reference scorers too; its pace, and a table of a few."""
    first, *others = loaded.draw.test_sets
    few = max(1, most // 4)
    taken, parts = 0, []
    for count in (few, few, most):  # rows of their own each: the first warm up, and leave what they all open with
        parts.append(_take_rows(first, taken, count))
        taken += count
    timed = [_time(plan.score, part) for part in parts]
    (_, _), (short, _), (long, scores) = timed
    counts = [len(part.rows) for part in parts]
    alike = [long]
    while sum(alike) < SCORING_SECONDS and taken + most <= len(first.rows):
        alike.append(_time(plan.score, _take_rows(first, taken, most))[0])
        taken += most
    fixed, pace = _part_cost(counts[1], short, counts[2], fmean(alike))
    seconds = fixed + pace * len(first.rows)
    for test in others:
        part = _take_rows(test, 0, few)
        took, _ = _time(plan.score, part)
        seconds += fixed + max(0.0, took - fixed) / len(part.rows) * len(test.rows)
    for score in plan.reference_scorers.values():
        part = _take_rows(first, 0, few)
        took, _ = _time(score, part)
        asked = sum(min(MOST_REFERENCE_ROWS, len(test.rows)) for test in loaded.draw.test_sets)
        seconds += took / len(part.rows) * asked
    table = tabulate(loaded.task, parts[-1], scores.argmax(axis=1).tolist(), scores)
    return seconds, _Pace(fixed, pace), table


def _part_cost(few: int, short: float, many: int, long: float) -> tuple[float, float]:
    """Seconds that a call takes whatever its rows, and seconds a row, from two calls of few and many rows."""
    if many <= few:
        return 0.0, long / many
    pace = max((long - short) / (many - few), long / many / 2)
    return max(0.0, long - pace * many), pace


def _take_rows(test: TestSet, start: int, count: int) -> TestSet:
    """Some rows of a test set from a place on; from its beginning where there are none left."""
    return replace(test, rows=test.rows[start : start + count] or test.rows[:count])


def _time(score: Callable[..., np.ndarray], test: TestSet) -> tuple[float, np.ndarray]:
    started, saved = time.perf_counter(), saved_seconds()
    scores = score_blindly(score, test)
    return time.perf_counter() - started + saved_seconds() - saved, scores
