"""Probe: logistic regression on a hidden state of the frozen model, its last or one block's.

Owns its settings. Source: Alain and Bengio 2016, https://arxiv.org/abs/1610.01644
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_BLOCKS, Method, refuse_beyond_blocks
from fewtune.methods.class_weights import ClassWeight
from fewtune.methods.penalty import InversePenalty, choose_penalty

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


USUAL_PENALTY = 0.01
"""What usually suits states that are standardised, each of some hundreds with a standard deviation of one."""


@dataclass(frozen=True)
class Settings:
    """What is read and how strongly the regression is held back."""

    prompted: Annotated[bool, Field(description="Read the pattern's prompt instead of the plain texts.")] = True
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    inverse_penalty: InversePenalty = USUAL_PENALTY
    class_weight: ClassWeight = None
    layer: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_BLOCKS,
            description="Block whose output is read, counted from 1; null: the last hidden state, "
            "after the final norm.",
        ),
    ] = None


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where the model has fewer blocks than the layer's number."""
    return refuse_beyond_blocks("layer", settings.layer, config) if settings.layer is not None else None


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Fit the regression on the standardised hidden states of the support's last tokens and score rows by it."""
    from sklearn.preprocessing import StandardScaler

    from fewtune.engine.readouts import StateReadout
    from fewtune.methods.answer import choose_pattern
    from fewtune.methods.held_out import know_label
    from fewtune.methods.plan import Plan
    from fewtune.predictors.language import LanguageScorer, Prompting
    from fewtune.predictors.network import Unchanged
    from fewtune.predictors.predictor import Predictor
    from fewtune.predictors.regression import Regression
    from fewtune.prompts.template import plain_template
    from fewtune.prompts.tokens import Encoder
    from fewtune.records import MethodNotes, PromptNotes

    assert model is not None
    forward = model.forward(model.frozen, block=settings.layer)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    plain = plain_template(task.fields, encoder.between)
    template = choose_pattern(task, settings.pattern).template if settings.prompted else plain
    prompting = Prompting(forward, encoder, template, StateReadout())
    states, labels = prompting.read(draw.support), [know_label(e.label) for e in draw.support]

    def standardise(fitted: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaler = StandardScaler().fit(states[fitted])
        return scaler.transform(states[fitted]), scaler.transform(states[others])

    penalty = choose_penalty(settings.inverse_penalty, USUAL_PENALTY, labels, standardise, settings.class_weight)
    fitted = Regression.fit(states, labels, len(task.labels), penalty.inverse, StandardScaler(), settings.class_weight)
    regression = fitted.soften(penalty.temperature)
    scorer = LanguageScorer(model, prompting, Unchanged(), reader=regression)
    return Plan(
        predictor=Predictor(task.labels, task.fields, scorer),
        forward=forward,
        trainable_parameters=regression.parameters,
        total_parameters=model.total_parameters,
        report=lambda: MethodNotes(
            prompt=PromptNotes(template=template, cut=encoder.count_cut()), penalty=penalty.notes
        ),
    )


METHOD = Method(
    name="probe",
    trains=False,
    summary="logistic regression on the frozen model's last hidden state, or on one block's output",
    source_url="https://arxiv.org/abs/1610.01644",
    settings=Settings,
    plan=plan,
    defaults_tried={"sentiment": 18, "cola": 13, "qqp": 2, "snli": 2},
    skip_reason=skip_reason,
    uses_fit_seed=lambda settings: False,
    uses_pattern=lambda settings: settings.prompted,
    baseline=True,
)
