"""Metadata of every record, whatever came of its trial: place in the grid, models, machine, software.

Owns these descriptions, and the records of trials that did not run or failed.
"""

from __future__ import annotations

import importlib.util
import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from fewtune.models import format_identity
from fewtune.records import Failure, Record, TrialAxes
from fewtune.running.job import Job, WorkerOptions
from fewtune.study.grid import Trial
from fewtune.system.processor import name_processor, usable_cores


def failed_record(job: Job, failure: Failure, started_at: str | None, options: WorkerOptions) -> Record:
    """The record of a trial that was skipped or failed where it was to run."""
    return Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial),
        status="skipped" if failure.kind == "skipped" else "failed",
        failure=failure,
        environment=describe_environment(job, options),
        fingerprints=fingerprint_models(job),
        started_at=started_at,
    )


def stopped_record(job: Job, reason: str) -> Record:
    """The record of a trial that no longer counts: its method was stopped in a race that went on."""
    return Record(
        trial_id=job.trial_id,
        trial=describe_axes(job.trial),
        status="stopped",
        failure=Failure(kind="stopped", message=reason),
        fingerprints=fingerprint_models(job),
    )


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


def fingerprint_models(job: Job) -> dict[str, str]:
    """The SHA-256 of the trial's model, as `weights`, and of each other model its method asked for."""
    return {
        "weights" if place == 0 else f"weights of {name}": fingerprint
        for place, (name, fingerprint) in enumerate(job.weights.items())
    }


def describe_environment(job: Job, options: WorkerOptions) -> dict[str, Any]:
    """Software, processor and settings that timings depend on."""
    return {
        "python": platform.python_version(),
        "packages": dict(_list_versions()),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": name_processor(),
        "device": _name_device(),
        "cores": usable_cores(),
        "workers": options.workers,
        "threads": count_threads(options),
        **({"devices_per_trial": options.devices_per_trial} if options.devices_per_trial > 1 else {}),
        "cache_share": options.cache_share,
        "precision": job.trial.precision,
        "evaluation": job.trial.evaluation.model_dump(),
        "max_tokens": job.trial.max_tokens,
        "model": None if job.trial.model is None else format_identity(job.trial.model.name),
    }


def count_threads(options: WorkerOptions) -> int:
    """Threads of each process that runs trials."""
    return options.threads or max(1, usable_cores() // (options.workers * options.devices_per_trial))


@cache
def _list_versions() -> dict[str, str]:
    """Versions of the packages that results or timings depend on; looking for them takes as long as a small trial."""
    packages = ["fewtune", "torch", "transformers", "peft", "scikit-learn", "numpy"]
    if importlib.util.find_spec("bitsandbytes") is not None:
        packages.append("bitsandbytes")
    return {name: version(name) for name in packages}


@cache
def _name_device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
