"""A method at work: its plan made from a model, a task and a draw, and fitted.

Owns what a method may see: a task without rows and a draw without test sets. Scores nothing and keeps no records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.methods.base import Method
from fewtune.tasks.base import Draw, Task

if TYPE_CHECKING:
    from fewtune.engine.fit import FitReport
    from fewtune.engine.language_model import LanguageModel
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
) -> FitReport | None:
    """Fit what a plan trains; None where it trains nothing. Raises what the fit does.

    `on_epoch(plan, epochs fitted, epochs)` is called after every epoch of the fit.
    """
    if plan.fitting is None:
        return None
    from fewtune.engine.fit import fit  # and torch with it

    return fit(plan.fitting, rng, on_step, None if on_epoch is None else partial(on_epoch, plan))


def task_for_method(task: Task) -> Task:
    """The task as a method may see it: no training rows beyond its draw, no test rows."""
    return replace(task, train=(), test_sets=())
