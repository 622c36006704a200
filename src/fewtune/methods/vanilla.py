"""Vanilla fine-tuning: all weights and a freshly initialised linear head on the last token.

Owns its settings and composition. Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, as a decoder's
sequence classifier reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.optimisation import FineTuning, HeadStart, LearningRate

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(FineTuning):
    """How all weights and the head train."""

    prompted: Annotated[bool, Field(description="Read the pattern's prompt instead of the plain texts.")] = False
    head_learning_rate: Annotated[
        LearningRate | None, Field(description="Peak rate of AdamW for the head; null: that of all weights.")
    ] = None
    head_start: Annotated[
        HeadStart,
        Field(
            description="What the head starts as: small random numbers, zeros, or a logistic regression on the frozen "
            "states of the support (LP-FT, Kumar et al. 2022, arXiv 2202.10054)."
        ),
    ] = "random"


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train every weight and the head on the support."""
    from fewtune.methods.answer import answer_by_head, head_parameters, start_head
    from fewtune.methods.fine_tuning import plan_split
    from fewtune.methods.held_out import hold_out
    from fewtune.methods.trainable import train_all

    assert model is not None
    answer = answer_by_head(model, task, settings.pattern, settings.prompted, rng)
    split = hold_out(draw.support, settings.validation_fraction, rng)
    start_head(answer, split[0], settings.head_start)  # rows that choose the epoch have no part in any fit
    trained = train_all(model, settings.learning_rate, body_only=True)
    head = head_parameters(answer, settings.head_learning_rate or settings.learning_rate)
    return plan_split(settings, split, answer, trained.join(head))


METHOD = Method(
    name="vanilla",
    summary="all weights and a fresh linear head on the last token",
    source_url="https://arxiv.org/abs/1810.04805",
    settings=Settings,
    plan=plan,
    defaults_tried={"sentiment": 12, "cola": 11, "qqp": 5, "snli": 5},
    uses_pattern=lambda settings: settings.prompted,
)
