"""The id of a trial: a hash of everything that decides its result, and of nothing else.

**What enters an id.** Everything that decides the result, and nothing else:
- the task's name and revision, the fingerprint of its rows, and that of its patterns;
- the draw: shots and what they count, sampling, data seed, pool rows, limits on test rows, the share held out;
- the method's name, revision and every setting (of ADDED_SETTINGS where they are not null), and where it is tuned its
  candidates, the folds and the metric, where that is the user's to choose;
- the fit seed, where the method uses it;
- where the method uses a model: the fingerprint of its weights, precision, tokens a prompt may have.

So these do not count: the study's name, variant and task labels, the order of axes, metrics and report
options, workers, a model's name or folder (its weights do), the paths of a task's files (their rows do).
Two trials of one study share an id where two folders hold the same weights or two files the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from fewtune.study.grid import Trial, uses_fit_seed
from fewtune.tasks.base import Pattern

ADDED_SETTINGS = frozenset({"class_weight", "texts"})
"""Settings that came after records were made: where they are null, what they were made with is the same."""


def identify_trial(
    trial: Trial,
    *,
    data_fingerprint: str,
    weights_fingerprint: str | None,
    method_revision: int,
    task_revision: int,
    patterns_fingerprint: str | None = None,
    held_out: float | None = None,
    chosen_metric: str | None = None,
) -> str:
    """The trial's id: 16 hex digits of SHA-256 over what the module's rule lists, as canonical JSON.

    Resolve the trial's shots (`resolve_shots`), precision and null settings (`nulls`) first, so that equal trials have
    equal ids.
    `weights_fingerprint` stands for the whole model, tokenizer included; None where the method uses no model.
    `patterns_fingerprint` is needed wherever patterns come from settings and not from the task's revision, and so is
    `chosen_metric`, the task's own. `held_out` is the share of training rows that each draw is tested on.
    """
    if (trial.model is None) != (weights_fingerprint is None):
        raise ValueError("a trial with a model needs the fingerprint of its weights, one without has none")
    if trial.model is not None and trial.precision == "auto":
        raise ValueError("precision `auto` depends on the hardware: resolve it before identifying a trial")
    uses_model = trial.model is not None
    identity: dict[str, Any] = {
        "task": [trial.task.name, task_revision, data_fingerprint, patterns_fingerprint],
        "draw": {
            "shots": trial.shots,
            "shots_per": trial.shots_per,
            "sampling": trial.sampling,
            "data_seed": trial.data_seed,
            "pool_rows": trial.pool_rows,
            "in_domain_rows": trial.evaluation.in_domain_limit,
            "out_of_domain_rows": trial.evaluation.out_of_domain_rows,
        },
        "method": [trial.method.name, method_revision, _count(trial.settings)],
        "fit_seed": trial.fit_seed if uses_fit_seed(trial.method) else None,
        "model": [weights_fingerprint, trial.precision, trial.max_tokens] if uses_model else None,
    }
    if trial.evaluation.checkpoint_every:
        identity["draw"]["checkpoint_every"] = trial.evaluation.checkpoint_every
    if trial.tuning is not None:
        identity["tuning"] = {"candidates": [*map(_count, trial.candidates)], "folds": trial.tuning.folds}
        if chosen_metric is not None:
            identity["tuning"]["metric"] = chosen_metric
    if held_out is not None:
        identity["draw"]["held_out"] = held_out
    return hashlib.sha256(write_canonically(identity)).hexdigest()[:16]


def _count(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None or name not in ADDED_SETTINGS}


def fingerprint_patterns(patterns: Iterable[Pattern]) -> str:
    """SHA-256 over a task's patterns in order: names, templates, label words, and whether these are constrained."""
    # A pattern that is not constrained has the fingerprint it had before there was a choice.
    told = [{key: value for key, value in asdict(pattern).items() if value is not False} for pattern in patterns]
    return hashlib.sha256(write_canonically(told)).hexdigest()


def write_canonically(value: Any) -> bytes:
    """Equal values as equal JSON, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
