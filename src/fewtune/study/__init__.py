"""Reads a study file: YAML to a frozen, validated `Study`, with every fault and its line reported at once.

The public names; `values` says what a study is, `reading` and `resolve` how a file becomes one.
"""

from fewtune.study.reading import load_study, read_settings, read_study
from fewtune.study.schema import study_schema
from fewtune.study.settings import build_settings
from fewtune.study.values import (
    AUTO,
    MOST_TRIALS,
    Budget,
    Evaluation,
    MethodChoice,
    Metric,
    ModelChoice,
    Precision,
    Resources,
    Study,
    TaskChoice,
    Tuning,
)

__all__ = [
    "AUTO",
    "MOST_TRIALS",
    "Budget",
    "Evaluation",
    "MethodChoice",
    "Metric",
    "ModelChoice",
    "Precision",
    "Resources",
    "Study",
    "TaskChoice",
    "Tuning",
    "build_settings",
    "load_study",
    "read_settings",
    "read_study",
    "study_schema",
]
