"""One trial, from its draw to its record.

Owns the order of things: a trial draws, tunes where it has a grid, fits, scores and is written down. Test rows lose
their labels here, before a method's scorer sees them. Does not know which process it runs in, or how progress is shown.
"""

from __future__ import annotations

import gc
import importlib.util
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fewtune.causes import find_failure_kind
from fewtune.errors import FewtuneError, TrialFailure
from fewtune.methods import get_method
from fewtune.records import (
    Breakdown,
    Checkpoint,
    Cost,
    Failure,
    FitNotes,
    Notes,
    Record,
    ReferenceNotes,
    TrialAxes,
)
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.job import Job, Progress, WorkerOptions
from fewtune.running.tune import Search, tune
from fewtune.running.worker import WorkerState
from fewtune.study import build_settings
from fewtune.study.grid import Trial
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Example, Task, TestSet
from fewtune.tasks.draw import make_draw
from fewtune.tasks.metrics import baselines, breakdowns, score_test_set

if TYPE_CHECKING:
    from fewtune.engine.meter import Meter
    from fewtune.methods.plan import Plan

SLOWEST_NOTICE = 0.1
"""Seconds between two progress notices of one fit."""


def run_trial(
    job: Job, state: WorkerState, on_progress: Callable[[Progress], None] = lambda progress: None
) -> tuple[Record, pl.DataFrame | None]:
    """Run one trial to its record and per-row predictions; a failure is a record too, with its reason."""
    from fewtune.engine import pulse
    from fewtune.engine.meter import Meter

    started_at, meter = datetime.now(UTC).isoformat(timespec="seconds"), Meter()
    latest = Progress("starting")

    def tell(progress: Progress) -> None:
        nonlocal latest
        latest = progress
        on_progress(progress)

    try:
        # A phase without steps of its own tells that it goes on as long as networks run in it.
        with pulse.heard_by(lambda: on_progress(latest)):
            record, predictions = _run(job, state, tell, meter)
    except Exception as error:  # any failure of a trial is a finding: it is recorded, and the study goes on
        failure = Failure(kind=find_failure_kind(error), message=_one_line(error), trace=traceback.format_exc())
        record, predictions = failed_record(job, failure, started_at, state.options), None
    finally:
        meter.close()
    gc.collect()
    seconds = {name: round(spent, 6) for name, spent in meter.seconds().items()}
    return record.model_copy(update={"started_at": started_at, "phase_seconds": seconds}), predictions


def failed_record(job: Job, failure: Failure, started_at: str | None, options: WorkerOptions) -> Record:
    """The record of a trial that was skipped or failed."""
    return Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial),
        status="skipped" if failure.kind == "skipped" else "failed",
        failure=failure,
        environment=describe_environment(job, options),
        fingerprints=fingerprint_models(job),
        started_at=started_at,
    )


def _run(
    job: Job, state: WorkerState, on_progress: Callable[[Progress], None], meter: Meter
) -> tuple[Record, pl.DataFrame | None]:
    import torch

    from fewtune.engine.meter import usable_cores

    if job.skip_reason is not None:
        return failed_record(job, Failure(kind="skipped", message=job.skip_reason), None, state.options), None
    trial, method = job.trial, get_method(job.trial.method.name)
    options = state.options
    torch.set_num_threads(max(1, usable_cores() // options.workers))
    on_progress(Progress("loading"))
    with meter.phase("load"):
        task = state.task(job)
        model, load_seconds = state.model(job)
        draw = make_draw(
            task,
            shots=trial.shots,
            per_class=False,
            balanced=trial.sampling == "balanced",
            data_seed=trial.data_seed,
            pool_rows=trial.pool_rows,
            in_domain_rows=trial.evaluation.in_domain_rows,
            out_of_domain_rows=trial.evaluation.out_of_domain_rows,
        )
    axes = (task.name, trial.shots, trial.data_seed, trial.fit_seed)
    models = [model, *model.others.values()] if model is not None else []
    meter.watch(model.device if model is not None else torch.device("cpu"), [each.tokenizer for each in models])
    tuning, fitted = None, FitNotes()
    checkpoints = _Checkpoints(trial.evaluation.checkpoint_every, draw.test_sets, meter)
    with meter.phase("fit") as fitting:
        on_progress(Progress("preparing"))
        chosen, tuning_tokens = dict(trial.settings), 0
        if trial.tuning is not None:
            with meter.phase("tune"):
                tuned = tune(
                    Search(method, trial.candidates, tuple(trial.method.grid), trial.tuning.folds),
                    model,
                    task,
                    draw,
                    axes,
                    lambda phase, done, fits: on_progress(Progress(phase, done, fits)),
                )
            chosen, tuning_tokens, tuning = tuned.settings, tuned.tokens, tuned.notes
        settings: Any = build_settings(method.settings, chosen)
        rng, on_epoch = make_rng("fit", *axes), checkpoints.take if checkpoints.every else None
        with meter.phase("prepare"):
            plan = make_plan(method, settings, model, task, draw, rng)
        report = fit_plan(plan, rng, _thin_out(on_progress), on_epoch)
        if report is not None:
            fitted = FitNotes(
                losses=[round(loss, 6) for loss in report.losses],
                groups=report.groups,
                validation_losses=[round(loss, 6) for loss in report.validation_losses],
                kept_epoch=report.kept_epoch,
            )
    tokens_before = plan.forward.tokens_run if plan.forward is not None else 0
    frames, parts = list[pl.DataFrame](), list[Breakdown]()
    answers, metrics, floors = dict[str, list[int]](), {}, {}
    with meter.phase("score") as predicting:
        scores = {}
        for test in draw.test_sets:
            on_progress(Progress(f"scoring {test.name}"))
            scores[test.name] = _score_blindly(plan.score, test)
    # What the trial holds of its own, the meter saw; what it shares of the loaded model was there before.
    networks = [plan.forward.network] if plan.forward is not None else []
    networks += [plan.taught_by] if plan.taught_by is not None else []
    shared = model.shared_bytes(networks) if model is not None else 0
    peak = meter.peak_memory_bytes(shared)
    for test in draw.test_sets:
        if not np.isfinite(scores[test.name]).all():
            raise TrialFailure("diverged", f"scores of test set {test.name} are not finite")
        answers[test.name], metrics[test.name] = score_test_set(test, scores[test.name])
        parts += breakdowns(test, answers[test.name])
        floors[test.name] = baselines(test)
        frames.append(_frame(task, test, answers[test.name], scores[test.name]))
    cost = Cost(
        fit_seconds=fitting.seconds - checkpoints.seconds,
        predict_seconds=predicting.seconds,
        predict_rows=sum(len(test.rows) for test in draw.test_sets),
        load_seconds=load_seconds,
        peak_memory_bytes=peak,
        resident_memory_bytes=meter.resident_memory_bytes(),
        trainable_parameters=plan.trainable_parameters,
        total_parameters=plan.total_parameters,
        fit_tokens=tokens_before - checkpoints.tokens + tuning_tokens + plan.prepared_tokens,
        predict_tokens=(plan.forward.tokens_run if plan.forward is not None else 0) - tokens_before,
    )
    references, reference_seconds = _ask_references(plan, draw.test_sets, answers, meter)
    record = Record(
        trial_id=job.trial_id,
        trial=describe_axes(trial).model_copy(update={"settings": chosen}),
        status="done",
        labels=list(task.labels),
        primary_metric=task.primary_metric,
        metrics=metrics,
        breakdowns=parts,
        baselines=floors,
        checkpoints=checkpoints.taken,
        cost=cost,
        environment=describe_environment(job, state.options),
        fingerprints={
            "data": task.fingerprint,
            "draw": draw.fingerprint,
            **fingerprint_models(job),
        },
        notes=Notes(
            **dict(plan.conclude(plan.report(), {name: each.metrics for name, each in references.items()})),
            fit=fitted,
            tuning=tuning,
            shared_rows=state.shared_rows(task, draw),
            references=references,
            reference_seconds=reference_seconds,
            task=list(task.notes),
        ),
    )
    return record, pl.concat(frames)


class _Checkpoints:
    """Test rows scored in the middle of a fit, for analysis alone; what that costs is kept apart from the fit's."""

    def __init__(self, every: int, test_sets: Sequence[TestSet], meter: Meter) -> None:
        self.every = every
        self.taken: list[Checkpoint] = []
        self.seconds, self.tokens = 0.0, 0
        self._test_sets, self._meter = test_sets, meter

    def take(self, plan: Plan, epoch: int, epochs: int) -> None:
        """Score every test set, where the epoch is one to look at or the last."""
        if epoch % self.every and epoch < epochs:
            return
        before = plan.forward.tokens_run if plan.forward is not None else 0
        with self._meter.phase("score") as looking:
            metrics = {test.name: score_test_set(test, _score_blindly(plan.score, test))[1] for test in self._test_sets}
        self.taken.append(Checkpoint(epoch=epoch, metrics=metrics))
        self.seconds += looking.seconds
        self.tokens += plan.forward.tokens_run - before if plan.forward is not None else 0


def _score_blindly(score: Callable[[Sequence[Example]], np.ndarray], test: TestSet) -> np.ndarray:
    """Log-probabilities of a test set's rows (rows, labels) by a scorer that sees neither labels nor facets."""
    return score([row.without_label() for row in test.rows])


def _ask_references(
    plan: Plan, test_sets: Sequence[TestSet], predicted: Mapping[str, Sequence[int]], meter: Meter
) -> tuple[dict[str, ReferenceNotes], float | None]:
    """What a plan's reference scorers make of test rows, by name, and the seconds; None where it has none."""
    if not plan.reference_scorers:
        return {}, None
    found = {}
    with meter.phase("score") as asking:
        for name, score in plan.reference_scorers.items():
            metrics, agreement = {}, {}
            for test in test_sets:
                answers, metrics[test.name] = score_test_set(test, _score_blindly(score, test))
                agreement[test.name] = float(np.mean(np.equal(answers, predicted[test.name])))
            found[name] = ReferenceNotes(metrics=metrics, agreement=agreement)
    return found, round(asking.seconds, 3)


def fingerprint_models(job: Job) -> dict[str, str]:
    """The SHA-256 of the trial's model, as `weights`, and of each other model its method asked for."""
    return {
        "weights" if place == 0 else f"weights of {name}": fingerprint
        for place, (name, fingerprint) in enumerate(job.weights.items())
    }


def describe_axes(trial: Trial) -> TrialAxes:
    """The trial's place in its study's grid, for its record."""
    return TrialAxes(
        model=trial.model.name if trial.model is not None else None,
        task=trial.task.label,
        method=trial.method.name,
        variant=trial.method.variant,
        shots=trial.shots,
        data_seed=trial.data_seed,
        fit_seed=trial.fit_seed,
        pattern=trial.pattern,
        settings=dict(trial.settings),
    )


def describe_environment(job: Job, options: WorkerOptions) -> dict[str, Any]:
    """Software, processor and settings that timings depend on."""
    from fewtune.engine.meter import name_processor, usable_cores

    packages = ["fewtune", "torch", "transformers", "peft", "scikit-learn", "numpy"]
    if importlib.util.find_spec("bitsandbytes") is not None:
        packages.append("bitsandbytes")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name_processor(),
        "device": _name_device(),
        "cores": usable_cores(),
        "workers": options.workers,
        "cache_share": options.cache_share,
        "precision": job.trial.precision,
        "evaluation": job.trial.evaluation.model_dump(),
        "max_tokens": job.trial.max_tokens,
    }


def _name_device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _frame(task: Task, test: TestSet, predicted: Sequence[int], scores: np.ndarray) -> pl.DataFrame:
    gold = [test.labels[row.label] for row in test.rows if row.label is not None]
    return pl.DataFrame(
        {
            "test_set": [test.name] * len(test.rows),
            "row_id": [row.row_id for row in test.rows],
            "gold": gold,
            "predicted": [test.labels[p] for p in predicted],
            **{f"score_{label}": scores[:, i].astype(np.float32) for i, label in enumerate(task.labels)},
        }
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
