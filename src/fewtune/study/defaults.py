"""Resolves settings that are null once a trial's task, shots and model are known.

Owns replacing nulls by the values they stand for, so that a trial's id and record say what it did. Three nulls have a
meaning of their own and stay: `teacher` (the student's own model), `layer` (the last hidden state, which no block's
number names), and `evaluation`'s rows (all). What is known only while a trial runs stays null too; its method says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewtune.methods.base import Method
from fewtune.study.grid import Trial
from fewtune.study.settings import build_settings, write_settings
from fewtune.tasks.base import Task

DEFAULT_MAX_TOKENS = 512
"""Tokens one rendered example may have where a study does not say, and its model reads so many."""


def resolve_candidates(trial: Trial, method: Method, task: Task) -> tuple[dict[str, Any], ...]:
    """A trial's candidates with every null replaced that stands for a value; the trial's shots are counted in total."""
    return tuple(
        resolve_settings(method, each, task, shots=trial.shots, pool_rows=trial.pool_rows) for each in trial.candidates
    )


def resolve_max_tokens(trial: Trial, positions: int | None) -> int | None:
    """Tokens that one example may have, of a model that reads `positions`; as it stands where there is no model."""
    if positions is None or trial.max_tokens is not None:
        return trial.max_tokens
    return min(DEFAULT_MAX_TOKENS, positions)


def resolve_settings(
    method: Method, settings: Mapping[str, Any], task: Task, *, shots: int, pool_rows: int
) -> dict[str, Any]:
    """A method's settings as plain values, its nulls replaced; `shots` are the support's rows."""
    typed: Any = build_settings(method.settings, settings)
    values = write_settings(method.resolve(typed, task, shots, pool_rows))
    if values.get("pattern", "none to set") is None and method.uses_pattern(typed):
        values["pattern"] = task.patterns[0].name
    return values
