"""In-context learning's plans for tests, of one context unless told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.tasks.base import Draw, Task


def show_rows(
    model: LanguageModel, task: Task, draw: Draw, rng: np.random.Generator | None = None, **settings: Any
) -> Plan:
    """The plan of these settings, with one context and contextual calibration where they are not among them."""
    method = get_method("in_context")
    typed = method.settings(**{"contexts": 1, "calibration": "contextual"} | settings)
    resolved = method.resolve(typed, task, len(draw.support), len(draw.pool))
    return method.plan(resolved, model, task, draw, np.random.default_rng(0) if rng is None else rng)
