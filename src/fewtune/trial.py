"""One cell of a study: the grid, a trial's identity, and seeds derived from named axes.

Owns the order in which trials are listed, the rule of what enters a trial's id, and how randomness is seeded.
Does not load models or rows: the fingerprints that an id needs are given to it.

**What enters an id.** Everything that decides the result, and nothing else:
- the task's name and revision, the fingerprint of its rows, and that of its patterns;
- the draw: shots and what they count, sampling, data seed, pool rows, limits on test rows;
- the method's name, revision and every setting, and where it is tuned its grid and the folds;
- the fit seed, where the method uses it;
- where the method uses a model: the fingerprint of its weights, precision, tokens a prompt may have.

So these do not count: the study's name, variant and task labels, the order of axes, metrics and report
options, workers, a model's name or folder (its weights do), the paths of a task's files (their rows do).
Two trials of one study share an id where two folders hold the same weights or two files the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fewtune.methods import get_method
from fewtune.study import (
    Evaluation,
    MethodChoice,
    ModelChoice,
    Precision,
    Study,
    TaskChoice,
    Tuning,
    build_settings,
)
from fewtune.tasks.base import Pattern


@dataclass(frozen=True)
class Trial:
    """One model, task, method, number of shots, data seed and fit seed, with all that it takes to run it."""

    model: ModelChoice | None
    """None where the method uses no language model."""
    task: TaskChoice
    method: MethodChoice
    shots: int
    """Labelled rows, counted as `shots_per` says; see `resolve_shots`."""
    shots_per: Literal["total", "class"]
    sampling: Literal["balanced", "natural"]
    data_seed: int
    fit_seed: int
    """The study's first where the method uses none."""
    evaluation: Evaluation
    pool_rows: int
    precision: Precision
    max_tokens: int | None
    pattern: str | None = None
    """The pattern, where the study runs its methods under several; it stands in the method's settings too."""
    tuning: Tuning | None = None
    """How the method's settings are chosen from its grid; None where it has none."""


def list_trials(study: Study, precision: Literal["bfloat16", "float32"] | None = None) -> list[Trial]:
    """Every trial of a study: first those without a model, then by model, task and draw.

    `precision` is what the hardware's `auto` stands for, and replaces `auto` only.
    """
    with_model = [choice for choice in study.methods if get_method(choice.name).uses_model]
    without_model = [choice for choice in study.methods if not get_method(choice.name).uses_model]
    blocks: list[tuple[ModelChoice | None, TaskChoice, list[MethodChoice]]] = [
        (None, task, without_model) for task in study.tasks
    ]
    blocks += [(model, task, with_model) for model in study.models for task in study.tasks]
    fit_seeds = {
        each.variant: study.fit_seeds if uses_fit_seed(each) else study.fit_seeds[:1] for each in study.methods
    }
    return [
        Trial(
            model=model,
            task=task,
            method=method,
            shots=shots,
            shots_per=study.shots_per,
            sampling=study.sampling,
            data_seed=data_seed,
            fit_seed=fit_seed,
            evaluation=study.evaluation,
            pool_rows=study.pool_rows,
            precision=precision if precision is not None and study.precision == "auto" else study.precision,
            max_tokens=study.max_tokens,
            tuning=study.tuning if method.grid else None,
        )
        for model, task, methods in blocks
        for shots in study.shots
        for data_seed in study.data_seeds
        for method in methods
        for fit_seed in fit_seeds[method.variant]
    ]


def uses_fit_seed(choice: MethodChoice) -> bool:
    """Whether anything is random in a method as a study sets it, in any of its candidates."""
    return _holds_for_any(choice, get_method(choice.name).uses_fit_seed)


def uses_pattern(choice: MethodChoice) -> bool:
    """Whether a method as a study sets it reads a pattern, in any of its candidates."""
    return _holds_for_any(choice, get_method(choice.name).uses_pattern)


def resolve_shots(trial: Trial, labels: int) -> Trial:
    """The same trial with its shots counted in total, for a task of that many labels."""
    if trial.shots_per == "total":
        return trial
    return replace(trial, shots=trial.shots * labels, shots_per="total")


def identify_trial(
    trial: Trial,
    *,
    data_fingerprint: str,
    weights_fingerprint: str | None,
    method_revision: int,
    task_revision: int,
    patterns_fingerprint: str | None = None,
) -> str:
    """The trial's id: 16 hex digits of SHA-256 over what the module's rule lists, as canonical JSON.

    Resolve the trial's shots (`resolve_shots`) and precision first, so that equal trials have equal ids.
    `weights_fingerprint` stands for the whole model, tokenizer included; None where the method uses no model.
    `patterns_fingerprint` is needed wherever patterns come from settings and not from the task's revision.
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
            "in_domain_rows": trial.evaluation.in_domain_rows,
            "out_of_domain_rows": trial.evaluation.out_of_domain_rows,
        },
        "method": [trial.method.name, method_revision, trial.method.settings],
        "fit_seed": trial.fit_seed if uses_fit_seed(trial.method) else None,
        "model": [weights_fingerprint, trial.precision, trial.max_tokens] if uses_model else None,
    }
    if trial.evaluation.checkpoint_every:
        identity["draw"]["checkpoint_every"] = trial.evaluation.checkpoint_every
    if trial.tuning is not None:
        identity["tuning"] = {"grid": trial.method.grid, "folds": trial.tuning.folds}
    return hashlib.sha256(_write_canonically(identity)).hexdigest()[:16]


def fingerprint_patterns(patterns: Iterable[Pattern]) -> str:
    """SHA-256 over a task's patterns in order: names, templates, label words."""
    return hashlib.sha256(_write_canonically([asdict(pattern) for pattern in patterns])).hexdigest()


def derive_seed(*axes: str | int) -> int:
    """A seed of 63 bits from named axes, such as ("draw", "cola", 16, 0); the same on every machine."""
    digest = hashlib.sha256(_write_canonically(list(axes))).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_rng(*axes: str | int) -> np.random.Generator:
    """A generator seeded by `derive_seed`."""
    return np.random.default_rng(derive_seed(*axes))


def _holds_for_any(choice: MethodChoice, question: Callable[[Any], bool]) -> bool:
    return _ask_candidates(choice.model_dump_json(), question)


@lru_cache(maxsize=4096)
def _ask_candidates(written: str, question: Callable[[Any], bool]) -> bool:
    """Whether it holds for any candidate of a choice in JSON: asked once, for a grid may have a thousand."""
    choice = MethodChoice.model_validate_json(written)
    settings_type = get_method(choice.name).settings
    return any(question(build_settings(settings_type, each)) for each in choice.candidates)


def _write_canonically(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
