"""Probe: logistic regression on a hidden state of the frozen model, its last or one block's.

Owns its settings. Source: Alain and Bengio 2016, https://arxiv.org/abs/1610.01644
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.methods.base import LARGEST_NUMBER, MOST_BLOCKS, SMALLEST_NUMBER, Method, refuse_beyond_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.plan import Plan
    from fewtune.models import LanguageModel
    from fewtune.tasks.base import Draw, Example, Task


@dataclass(frozen=True)
class Settings:
    """What is read and how strongly the regression is held back."""

    prompted: Annotated[bool, Field(description="Read the pattern's prompt instead of the plain texts.")] = True
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    inverse_penalty: Annotated[
        float,
        Field(
            ge=SMALLEST_NUMBER, le=LARGEST_NUMBER, description="Inverse strength of the L2 penalty (scikit-learn's C)."
        ),
    ] = 0.1
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
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fewtune.engine.forward import Forward
    from fewtune.engine.plan import Plan
    from fewtune.engine.readers import StateReader
    from fewtune.engine.score import score_prompts
    from fewtune.methods.blocks import choose_pattern, normalise
    from fewtune.methods.tfidf import complete_scores
    from fewtune.text import Encoder, plain_template

    assert model is not None
    forward = Forward(model.frozen, model.precision, block=settings.layer)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    template = choose_pattern(task, settings.pattern).template if settings.prompted else plain_template(task.fields)

    def features(examples: Sequence[Example]) -> np.ndarray:
        return score_prompts(forward, encoder.encode(template, examples), StateReader())

    regression = LogisticRegression(C=settings.inverse_penalty, max_iter=1000)
    pipeline = make_pipeline(StandardScaler(), regression)
    pipeline.fit(features(draw.support), [e.label for e in draw.support])

    def score(examples: Sequence[Example]) -> np.ndarray:
        scores = pipeline.predict_log_proba(features(examples))
        return normalise(complete_scores(scores, pipeline.classes_, len(task.labels)))

    return Plan(
        score=score,
        forward=forward,
        trainable_parameters=int(regression.coef_.size + regression.intercept_.size),
        total_parameters=model.total_parameters,
        report=lambda: {"template": template, **encoder.report()},
    )


METHOD = Method(
    name="probe",
    summary="logistic regression on the frozen model's last hidden state, or on one block's output",
    source_url="https://arxiv.org/abs/1610.01644",
    settings=Settings,
    plan=plan,
    skip_reason=skip_reason,
    uses_fit_seed=lambda settings: False,
    uses_pattern=lambda settings: settings.prompted,
    floor=True,
)
