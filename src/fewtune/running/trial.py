"""Runs one trial, from its draw to its record.

Owns the order of things: a trial draws, tunes where it has a grid, fits, scores and is described. Does not know which
process it runs in, or how progress is shown.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from fewtune.data.cache_folder import CHECKPOINTS, cache_folder
from fewtune.errors import FewtuneError, TrialFailure
from fewtune.methods import get_method
from fewtune.methods.base import Method
from fewtune.records import Checkpoint, Failure, FitNotes, Notes, Record, TuningNotes
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.collapse import fit_again_where_collapsed
from fewtune.running.cost import count_cost
from fewtune.running.excerpt import run_excerpt
from fewtune.running.job import Job, Progress, WorkerOptions
from fewtune.running.scoring import Checkpoints, Scores, ask_references, judge_scores, score_blindly
from fewtune.running.trial_inputs import Loaded, load_trial, name_axes
from fewtune.running.trial_metadata import describe_axes, describe_environment, failed_record, fingerprint_models
from fewtune.running.tune import Search, Tuned, tune
from fewtune.running.worker import WorkerState
from fewtune.study import build_settings
from fewtune.study.grid import Trial
from fewtune.study.seeds import make_rng
from fewtune.system.failure_kinds import find_failure_kind
from fewtune.tasks.draw import share_support

if TYPE_CHECKING:
    from fewtune.engine.fit import FitReport
    from fewtune.engine.meter import Meter, Span
    from fewtune.engine.resuming import Resumption
    from fewtune.methods.plan import Plan

SLOWEST_NOTICE = 0.1
"""Seconds between two progress notices of one fit."""


def run_trial(
    job: Job, state: WorkerState, on_progress: Callable[[Progress], None] = lambda progress: None
) -> tuple[Record, pl.DataFrame | None]:
    """Run one trial to its record and per-row predictions; a failure is a record too, with its reason."""
    from fewtune.engine import heartbeat
    from fewtune.engine.meter import Meter

    started_at, meter = datetime.now(UTC).isoformat(timespec="seconds"), Meter()
    latest = Progress("starting")

    def tell(progress: Progress) -> None:
        nonlocal latest
        latest = progress
        on_progress(progress)

    try:
        # A phase without steps of its own tells that it goes on as long as networks run in it.
        with heartbeat.heard_by(lambda: on_progress(latest)):
            run = _run if job.excerpt is None else run_excerpt
            record, predictions = run(job, state, tell, meter)
    except Exception as error:  # any failure of a trial is a finding: it is recorded, and the study goes on
        failure = Failure(kind=find_failure_kind(error), message=_one_line(error), trace=traceback.format_exc())
        record, predictions = failed_record(job, failure, started_at, state.options), None
    finally:
        meter.close()
    if job.weights:  # networks are large; what trials without any leave is collected as it adds up
        gc.collect()
    seconds = record.phase_seconds or {name: round(spent, 6) for name, spent in meter.seconds().items()}
    return record.model_copy(update={"started_at": started_at, "phase_seconds": seconds}), predictions


@dataclass(frozen=True)
class _Fitted:
    """A method fitted: its plan, the settings it had, how that went and what it took."""

    plan: Plan
    settings: dict[str, Any]
    fit: FitNotes
    tuning: TuningNotes | None
    checkpoints: list[Checkpoint]
    defaults_tried: Mapping[str, int]
    spent: Span


def _run(
    job: Job, state: WorkerState, on_progress: Callable[[Progress], None], meter: Meter
) -> tuple[Record, pl.DataFrame | None]:
    if job.skip_reason is not None:
        return failed_record(job, Failure(kind="skipped", message=job.skip_reason), None, state.options), None
    on_progress(Progress("loading"))
    loaded = load_trial(job, state, meter)
    resumption = _make_resumption(job, state.options)
    fitted = _fit(job.trial, loaded, on_progress, meter, resumption)
    plan, test_sets = fitted.plan, loaded.draw.test_sets
    scores = {}
    with meter.phase("score") as predicting:
        for test in test_sets:
            on_progress(Progress(f"scoring {test.name}"))
            scores[test.name] = score_blindly(plan.score, test)
    cost = count_cost(loaded, plan, fitted.spent, predicting, meter)
    judged = judge_scores(loaded.task, test_sets, scores)
    notes = _take_notes(loaded, fitted, scores, state, meter)
    if resumption is not None:
        resumption.remove()
    record = Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial).model_copy(update={"settings": fitted.settings}),
        status="done",
        labels=list(loaded.task.labels),
        primary_metric=loaded.task.primary_metric,
        metrics=judged.metrics,
        breakdowns=judged.breakdowns,
        baselines=judged.baselines,
        checkpoints=fitted.checkpoints,
        cost=cost,
        environment=describe_environment(job, state.options),
        fingerprints={
            "data": loaded.task.fingerprint,
            "draw": loaded.draw.fingerprint,
            **fingerprint_models(job),
        },
        notes=notes,
    )
    return record, judged.predictions


def _make_resumption(job: Job, options: WorkerOptions) -> Resumption | None:
    """Where a fit's state is kept, in this machine's cache; nowhere for trials without a model.

    Test rows that are scored in the middle of a fit are not kept: such a trial is begun anew. So is one that several
    processes run together.
    """
    if not job.weights or job.trial.evaluation.checkpoint_every or options.devices_per_trial > 1:
        return None
    from fewtune.engine.resuming import EVERY_SECONDS, Resumption

    every = EVERY_SECONDS if options.checkpoint_seconds is None else options.checkpoint_seconds
    return Resumption(cache_folder() / CHECKPOINTS / f"{job.trial_id}.safetensors", every)


def _fit(
    trial: Trial,
    loaded: Loaded,
    on_progress: Callable[[Progress], None],
    meter: Meter,
    resumption: Resumption | None,
) -> _Fitted:
    """Choose settings where there is a choice, make the method's plan and fit it."""
    method, checkpoints = get_method(trial.method.name), None
    if trial.evaluation.checkpoint_every:
        checkpoints = Checkpoints(trial.evaluation.checkpoint_every, loaded.draw.test_sets, meter)
    with meter.phase("fit") as fitting:
        on_progress(Progress("preparing"))
        tuned = _tune(trial, loaded, on_progress, meter)
        chosen = dict(trial.settings) if tuned is None else tuned.settings
        settings: Any = build_settings(method.settings, chosen)

        def fit(attempt: int) -> tuple[Plan, FitReport | None]:
            if checkpoints is not None:
                checkpoints.taken.clear()  # of a fit that collapsed
            on_epoch = checkpoints.take if checkpoints is not None else None
            again = ("again", attempt) if attempt else ()
            rng = make_rng("fit", *name_axes(trial, loaded.task), *again)
            with meter.phase("prepare"):
                plan = make_plan(method, settings, loaded.model, loaded.task, loaded.draw, rng)
            return fit_plan(plan, rng, _thin_out(on_progress), on_epoch, None if attempt else resumption)

        found = fit_again_where_collapsed(fit, loaded.draw)
        plan, report = found.plan, found.report
    spent = fitting
    if resumption is not None:  # what it took before it was killed is its cost too
        meter.charge("fit", resumption.seconds)
        spent = replace(
            fitting, seconds=fitting.seconds + resumption.seconds, tokens=fitting.tokens + resumption.tokens
        )
    return _Fitted(
        plan=plan,
        settings=chosen,
        fit=FitNotes() if report is None else _note_fit(report, resumption, found.collapsed),
        tuning=tuned.notes if tuned is not None else None,
        checkpoints=checkpoints.taken if checkpoints is not None else [],
        defaults_tried=_find_defaults(method, settings, loaded, trial.task.label) if tuned is None else {},
        spent=spent,
    )


def _tune(trial: Trial, loaded: Loaded, on_progress: Callable[[Progress], None], meter: Meter) -> Tuned | None:
    """The settings chosen by cross-validation; None where the study asks for no tuning."""
    if trial.tuning is None:
        return None
    with meter.phase("tune"):
        return tune(
            Search(get_method(trial.method.name), trial.candidates, tuple(trial.method.grid), trial.tuning.folds),
            loaded.model,
            loaded.task,
            loaded.draw,
            name_axes(trial, loaded.task),
            lambda phase, done, fits: on_progress(Progress(phase, done, fits)),
        )


def _note_fit(report: FitReport, resumption: Resumption | None, collapsed: int) -> FitNotes:
    return FitNotes(
        collapsed=collapsed,
        losses=[round(loss, 6) for loss in report.losses],
        groups=report.groups,
        validation_losses=[round(loss, 6) if math.isfinite(loss) else None for loss in report.validation_losses],
        kept_epoch=report.kept_epoch,
        resumed_at=[] if resumption is None else resumption.resumed_at,
    )


_OF_TASK_AND_SHOTS = ("pattern", "epochs", "steps")
"""Settings that go with a task and a number of shots: with others a trial still has its method's defaults."""


def _find_defaults(method: Method, settings: Any, loaded: Loaded, label: str) -> Mapping[str, int]:
    """What the method's defaults were chosen from, by task, where the trial had them; `label` is its own task's.

    Where its method names none: none of this task; a baseline that names none is left out.
    """
    rows = len(loaded.draw.support), len(loaded.draw.pool)
    resolved = method.resolve(method.settings(), loaded.task, *rows)
    had, plain = (asdict(each) | dict.fromkeys(_OF_TASK_AND_SHOTS) for each in (settings, resolved))
    if had != plain:
        return {}
    tried = method.defaults_tried or ({} if method.baseline else {loaded.task.name: 0})
    own = loaded.task.name  # another task that has this label in a study is not the one of that name
    named = {name: count for name, count in tried.items() if name not in (own, label)}
    return named | ({label: tried[own]} if own in tried else {})


def _take_notes(loaded: Loaded, fitted: _Fitted, scores: Scores, state: WorkerState, meter: Meter) -> Notes:
    """All that the record notes; other scorers of the plan are asked for it. `scores` are its own, by test set."""
    plan = fitted.plan
    with meter.phase("score") as asking:
        references = ask_references(plan, loaded.draw.test_sets, scores)
    said = plan.conclude(plan.report(), {name: each.metrics for name, each in references.items()})
    return Notes(
        **dict(said),
        fit=fitted.fit,
        tuning=fitted.tuning,
        defaults_tried=dict(fitted.defaults_tried),
        shared_rows=state.shared_rows(loaded.task, loaded.draw),
        support_share=round(share_support(loaded.task, loaded.draw), 6),
        references=references,
        reference_seconds=round(asking.seconds, 3) if references else None,
        task=list(loaded.task.notes),
    )


def _thin_out(on_progress: Callable[[Progress], None]) -> Callable[[int, int, float], None]:
    last = 0.0

    def on_step(step: int, steps: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SLOWEST_NOTICE or step == steps:
            last = now
            on_progress(Progress("fitting", step, steps, loss))

    return on_step


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, TrialFailure | FewtuneError) else f"{type(error).__name__}: {text}"
