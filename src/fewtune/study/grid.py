"""The grid of a study: its trials, in the order in which they are listed.

Owns what a trial is and how a study spreads into them. Does not load models or rows, and does not name trials
(`identity`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from fewtune.methods import get_method
from fewtune.study.settings import build_settings
from fewtune.study.values import (
    Evaluation,
    MethodChoice,
    ModelChoice,
    Precision,
    Study,
    TaskChoice,
    Tuning,
)
from fewtune.tasks.base import Task


@dataclass(frozen=True)
class Trial:
    """One model, task, method, number of shots, data seed and fit seed, with all that it takes to run it."""

    model: ModelChoice | None
    """None where the method uses no language model."""
    task: TaskChoice
    method: MethodChoice
    candidates: tuple[Mapping[str, Any], ...]
    """Every setting of the method, for each combination of its grid; one where it has none."""
    shots: int
    """Labelled rows, counted as `shots_per` says; see `resolve_shots`."""
    shots_per: Literal["total", "class"]
    sampling: Literal["balanced", "stratified", "natural"]
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

    @property
    def settings(self) -> Mapping[str, Any]:
        """The method's settings; its first candidate's where they are chosen."""
        return self.candidates[0]


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
    candidates = {each.variant: tuple(each.candidates) for each in study.methods}
    return [
        Trial(
            model=model,
            task=task,
            method=method,
            candidates=candidates[method.variant],
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
        if model is None or not method.models or model.name in method.models
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


def spread_patterns(trial: Trial, study: Study, task: Task) -> list[Trial]:
    """The trial under each of the study's patterns, where its method has one to set and sets none itself."""
    settable = all(settings.get("pattern", "none to set") is None for settings in trial.candidates)
    if study.patterns == "default" or not settable or not uses_pattern(trial.method):
        return [trial]
    names = [pattern.name for pattern in task.patterns]
    if isinstance(study.patterns, dict):
        names = list(study.patterns.get(trial.task.label, names[:1]))
    return [
        replace(trial, candidates=tuple({**each, "pattern": name} for each in trial.candidates), pattern=name)
        for name in names
    ]


def _holds_for_any(choice: MethodChoice, question: Callable[[Any], bool]) -> bool:
    return _ask_candidates(choice.model_dump_json(), question)


@lru_cache(maxsize=4096)
def _ask_candidates(written: str, question: Callable[[Any], bool]) -> bool:
    """Whether it holds for any candidate of a choice in JSON: asked once, for a grid may have a thousand."""
    choice = MethodChoice.model_validate_json(written)
    settings_type = get_method(choice.name).settings
    return any(question(build_settings(settings_type, each)) for each in choice.candidates)
