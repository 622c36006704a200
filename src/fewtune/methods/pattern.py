"""Pattern-based fine-tuning: all weights, the language-model head, a loss over the label words.

Owns its settings and composition. A random head on prompted text is not this (that is `vanilla` with
`prompted`). Sources: Schick and Schuetze 2021, https://arxiv.org/abs/2001.07676; Mosbach et al. 2023,
https://arxiv.org/abs/2305.16938
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.optimisation import Epochs, FineTuning, LearningRate

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(FineTuning):
    """How all weights train and what the loss is taken over; its own defaults are measured ones (docs/defaults.md)."""

    epochs: Epochs = 10
    learning_rate: LearningRate = 1e-5
    loss_over: Annotated[
        Literal["label_words", "vocabulary"],
        Field(description="Normalise the loss over the label words, or over the whole vocabulary."),
    ] = "label_words"


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train every weight on the support's label words."""
    from fewtune.methods.answer import answer_by_label_words
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import train_all

    assert model is not None
    answer = answer_by_label_words(model, task, draw, settings.pattern, settings.loss_over)
    trained = train_all(model, settings.learning_rate, body_only=False)
    return plan_training(settings, draw, answer, trained, rng)


METHOD = Method(
    name="pattern",
    summary="all weights, language-model head, loss over the label words (PBFT)",
    source_url="https://arxiv.org/abs/2305.16938",
    settings=Settings,
    plan=plan,
    needs=lambda settings: frozenset({"label_words"}),
    defaults_tried={"sentiment": 12, "cola": 12, "qqp": 2, "snli": 2},
)
