"""Zero-shot: label words scored after the row's prompt, nothing shown and nothing trained; a baseline of adaptation.

Owns its settings. Source: Brown et al. 2020, https://arxiv.org/abs/2005.14165, who call it so; what is subtracted from
the scores is `fewtune.prompts.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.methods import in_context
from fewtune.methods.base import Method
from fewtune.prompts.calibration import Calibration

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings:
    """How label words' scores are calibrated."""

    calibration: Annotated[
        Calibration, Field(description="What is subtracted from the scores, as in_context has it; batch needs a pool.")
    ] = "domain"
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Score label words behind nothing, calibrate."""
    asked = in_context.Settings(
        demonstrations=0, contexts=1, calibration=settings.calibration, pattern=settings.pattern
    )
    return in_context.plan(asked, model, task, draw, rng)


METHOD = Method(
    name="zero_shot",
    trains=False,
    summary="best-scoring label word after the row alone, calibrated; nothing is shown, nothing trains",
    source_url="https://arxiv.org/abs/2005.14165",
    settings=Settings,
    plan=plan,
    needs=lambda settings: frozenset({"label_words"}),
    uses_fit_seed=lambda settings: settings.calibration == "domain",
    needs_pool=lambda settings: settings.calibration == "batch",
    baseline=True,
)
