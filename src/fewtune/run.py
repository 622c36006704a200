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
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fewtune.adapt import fit_plan, make_plan
from fewtune.causes import find_failure_kind
from fewtune.errors import FewtuneError, TrialFailure
from fewtune.methods import get_method
from fewtune.models import ModelPlace, resolve_precision
from fewtune.prepare import Job, load_task
from fewtune.records import Breakdown, Checkpoint, Cost, Failure, Record, TrialAxes
from fewtune.study import build_settings
from fewtune.tasks.base import Draw, Example, Task, TestSet
from fewtune.tasks.draw import make_draw
from fewtune.tasks.metrics import baselines, breakdowns, score_test_set
from fewtune.tasks.overlap import find_shared_rows
from fewtune.trial import Trial, make_rng
from fewtune.tuning import tune

if TYPE_CHECKING:
    from fewtune.engine.meter import Meter
    from fewtune.methods.plan import Plan
    from fewtune.models import LanguageModel

DEFAULT_MAX_TOKENS = 512
"""Tokens one rendered example may have where a study does not say."""

SLOWEST_NOTICE = 0.1
"""Seconds between two progress notices of one fit."""


@dataclass(frozen=True)
class Progress:
    """Where a running trial stands: its phase, and while fitting its step and loss."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None


class Bench:
    """What one process keeps between trials: models read, tasks read."""

    def __init__(self) -> None:
        from fewtune.models import ModelShelf

        self.shelf = ModelShelf()
        self._place: ModelPlace | None = None
        self._tasks: dict[str, Task] = {}
        self._shared_rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def model(self, job: Job) -> tuple[LanguageModel | None, float | None]:
        """The trial's model with the others its settings name, ready to use, and the seconds it took to load."""
        if job.place is None:
            return None, None
        precision = resolve_precision(job.trial.precision)
        if job.place != self._place:
            # A study runs a model's trials together; what some of them ask for besides stays with it.
            self.shelf.keep_only([job.place, *job.others])
            self._place = job.place
        loaded = []
        load_seconds = 0.0
        for place in (job.place, *job.others):
            each = self.shelf.get(place, precision)
            load_seconds += self.shelf.load_seconds
            each.max_tokens = job.trial.max_tokens or DEFAULT_MAX_TOKENS
            _ = each.frozen  # made before memory is watched: it is shared, and no trial's own cost
            loaded.append(each)
        loaded[0].others = {other.name: each for other, each in zip(job.others, loaded[1:], strict=True)}
        return loaded[0], load_seconds

    def task(self, job: Job) -> Task:
        key = f"{job.trial.task!r}:{job.data_dir}"
        if key not in self._tasks:
            self._tasks[key] = load_task(job.trial.task, job.data_dir)
        return self._tasks[key]

    def shared_rows(self, task: Task, draw: Draw) -> list[dict[str, Any]]:
        """What the sets of a task's draw share, looked for once a draw."""
        key = task.fingerprint, draw.fingerprint
        if key not in self._shared_rows:
            self._shared_rows[key] = find_shared_rows(draw)
        return self._shared_rows[key]


def run_trial(
    job: Job, bench: Bench, on_progress: Callable[[Progress], None] = lambda progress: None
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
            record, predictions = _run(job, bench, tell, meter)
    except Exception as error:  # any failure of a trial is a finding: it is recorded, and the study goes on
        failure = Failure(kind=find_failure_kind(error), message=_one_line(error), trace=traceback.format_exc())
        record, predictions = failed_record(job, failure, started_at), None
    finally:
        meter.close()
    gc.collect()
    seconds = {name: round(spent, 6) for name, spent in meter.seconds().items()}
    return record.model_copy(update={"started_at": started_at, "phase_seconds": seconds}), predictions


def failed_record(job: Job, failure: Failure, started_at: str | None) -> Record:
    """The record of a trial that was skipped or failed."""
    return Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial),
        status="skipped" if failure.kind == "skipped" else "failed",
        failure=failure,
        environment=describe_environment(job),
        fingerprints=fingerprint_models(job),
        started_at=started_at,
    )


def _run(
    job: Job, bench: Bench, on_progress: Callable[[Progress], None], meter: Meter
) -> tuple[Record, pl.DataFrame | None]:
    import torch

    from fewtune.engine.frozen import SHARE_OF_MEMORY, limit_kept_states
    from fewtune.engine.meter import usable_cores

    if job.skip_reason is not None:
        return failed_record(job, Failure(kind="skipped", message=job.skip_reason), None), None
    trial, method = job.trial, get_method(job.trial.method.name)
    torch.set_num_threads(max(1, usable_cores() // job.workers))
    limit_kept_states((SHARE_OF_MEMORY if job.cache_share is None else job.cache_share) / job.workers)
    on_progress(Progress("loading"))
    with meter.phase("load"):
        task = bench.task(job)
        model, load_seconds = bench.model(job)
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
    notes: dict[str, Any] = {}
    checkpoints = _Checkpoints(trial.evaluation.checkpoint_every, draw.test_sets, meter)
    with meter.phase("fit") as fitting:
        on_progress(Progress("preparing"))
        chosen, tuning_tokens = trial.method.settings, 0
        if trial.tuning is not None:
            with meter.phase("tune"):
                tuned = tune(
                    method,
                    trial.method.candidates,
                    list(trial.method.grid),
                    trial.tuning.folds,
                    model,
                    task,
                    draw,
                    axes,
                    lambda phase, done, fits: on_progress(Progress(phase, done, fits)),
                )
            chosen, tuning_tokens, notes["tuning"] = tuned.settings, tuned.tokens, tuned.notes
        settings: Any = build_settings(method.settings, chosen)
        rng, on_epoch = make_rng("fit", *axes), checkpoints.take if checkpoints.every else None
        with meter.phase("prepare"):
            plan = make_plan(method, settings, model, task, draw, rng)
        report = fit_plan(plan, rng, _thin_out(on_progress), on_epoch)
        if report is not None:
            notes["losses"] = [round(loss, 6) for loss in report.losses]
            notes["parameter_groups"] = report.groups
            if report.kept_epoch is not None:
                notes["validation_losses"] = [round(loss, 6) for loss in report.validation_losses]
                notes["kept_epoch"] = report.kept_epoch
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
    shared = sum(each.shared_bytes(networks) for each in models)
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
        environment=describe_environment(job),
        fingerprints={
            "data": task.fingerprint,
            "draw": draw.fingerprint,
            **fingerprint_models(job),
        },
        notes={
            **notes,
            "shared_rows": bench.shared_rows(task, draw),
            **plan.report(),
            **_ask_companions(plan, draw.test_sets, answers, meter),
            "task": list(task.notes),
        },
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


def _ask_companions(
    plan: Plan, test_sets: Sequence[TestSet], predicted: Mapping[str, Sequence[int]], meter: Meter
) -> dict[str, Any]:
    """Metrics of a plan's companions on the test rows, how often they answer as the plan does, and their seconds."""
    if not plan.companions:
        return {}
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    agreement: dict[str, dict[str, float]] = {}
    with meter.phase("score") as asking:
        for name, score in plan.companions.items():
            metrics[name], agreement[name] = {}, {}
            for test in test_sets:
                answers, metrics[name][test.name] = score_test_set(test, _score_blindly(score, test))
                agreement[name][test.name] = float(np.mean(np.equal(answers, predicted[test.name])))
    return {
        "companions": metrics,
        "companion_agreement": agreement,
        "companion_seconds": round(asking.seconds, 3),
        **plan.conclude(metrics),
    }


def fingerprint_models(job: Job) -> dict[str, str]:
    """The SHA-256 of the trial's model, as `weights`, and of each other model its method asked for."""
    others = {f"weights of {other.name}": other.weights_fingerprint for other in job.others}
    return {"weights": job.place.weights_fingerprint, **others} if job.place else {}


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
        settings=trial.method.settings,
    )


def describe_environment(job: Job) -> dict[str, Any]:
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
        "workers": job.workers,
        "cache_share": job.cache_share,
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
