"""Plans of context distillation as its tests make them: behind one context, calibrated by texts without content."""

from __future__ import annotations

from typing import Any

import numpy as np

from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.tasks.base import Draw, Task


def make_plan(
    model: LanguageModel, task: Task, draw: Draw, name: str = "context_distillation", **settings: Any
) -> Plan:
    method = get_method(name)
    one = {"contexts": 1, "calibration": "contextual"} if name == "context_distillation" else {}
    chosen = method.resolve(method.settings(**{**one, **settings}), task, len(draw.support), len(draw.pool))
    assert method.skip_reason(chosen, model.config, task) is None
    return method.plan(chosen, model, task, draw, np.random.default_rng(0))
