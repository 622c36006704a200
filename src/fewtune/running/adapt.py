"""Runs one method: makes its plan from a model, a task and a draw, and fits it.

Owns what a method may see: a task without rows and a draw without test sets. Scores nothing and keeps no records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.methods.base import Method
from fewtune.tasks.base import Draw, Task

if TYPE_CHECKING:
    from fewtune.engine.fit import FitReport
    from fewtune.engine.language_model import LanguageModel
    from fewtune.engine.resuming import Resumption
    from fewtune.methods.plan import Plan


def make_plan(
    method: Method, settings: Any, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator
) -> Plan:
    """A method's plan for a draw; raises what the method does."""
    return method.plan(settings, model, task_for_method(task), replace(draw, test_sets=()), rng)


def fit_plan(
    plan: Plan,
    rng: np.random.Generator,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Plan, int, int], None] | None = None,
    resumption: Resumption | None = None,
) -> tuple[Plan, FitReport | None]:
    """Fit what a plan trains; the plan as it is then, and what the fit did, None where nothing trains.

    `on_epoch(plan, epochs fitted, epochs)` is called after every epoch of the fit, the plan not finished. With a
    `resumption` a fit that another process began goes on from there. Raises what the fit does.
    """
    if plan.fitting is None:
        return plan.finish(), None
    from fewtune.engine.fit import fit  # and torch with it

    def end_epoch(fitted: int, epochs: int) -> None:
        assert on_epoch is not None
        on_epoch(plan, fitted, epochs)

    report = fit(plan.fitting, rng, on_step, None if on_epoch is None else end_epoch, resumption)
    if plan.forward is not None:
        plan.forward.frozen.forget()
    return plan.finish(), report


def task_for_method(task: Task) -> Task:
    """The task as a method may see it: no training rows beyond its draw, no test rows."""
    return replace(task, train=(), test_sets=())
