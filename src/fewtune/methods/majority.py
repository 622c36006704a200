"""Majority: always answers the most frequent label of the support; the score that every other has to beat.

Owns nothing but its rule. Source: no paper; the baseline every classification table needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fewtune.methods.base import Method


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


def plan(settings: Settings, model: Any, task: Any, draw: Any, rng: np.random.Generator) -> Any:
    """Score every row with the support's label frequencies; ties go to the label named first."""
    from fewtune.methods.plan import Plan
    from fewtune.predictors.constant import ConstantScorer
    from fewtune.predictors.predictor import Predictor

    counts = np.bincount([e.label for e in draw.support], minlength=len(task.labels))
    # One more than seen, so that a label the support lacks keeps a finite score.
    scores = np.log((counts + 1) / (counts + 1).sum())
    return Plan(Predictor(task.labels, task.fields, ConstantScorer(scores)))


METHOD = Method(
    name="majority",
    trains=False,
    summary="most frequent label of the support",
    source_url="https://scikit-learn.org/stable/modules/generated/sklearn.dummy.DummyClassifier.html",
    settings=Settings,
    plan=plan,
    uses_model=False,
    uses_fit_seed=lambda settings: False,
    baseline=True,
    constant=True,
)
