"""In-context learning: demonstrations before the query, the best-scoring label word after it; nothing trains.

Owns its settings; the context and its calibration are `prompts`. Source: Brown et al. 2020,
https://arxiv.org/abs/2005.14165
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_DEMONSTRATIONS, Method

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings:
    """Which demonstrations stand before the query and how label words' scores are calibrated."""

    demonstrations: Annotated[
        int,
        Field(
            ge=0, le=MOST_DEMONSTRATIONS, description="Labelled rows shown before the query; at most the support has."
        ),
    ] = 16
    calibration: Annotated[
        Literal["none", "contextual", "batch"],
        Field(
            description="none: label words as scored. contextual: divide by the mean label probabilities of "
            "content-free inputs. batch: subtract the mean log-probability over the unlabelled pool."
        ),
    ] = "contextual"
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    separator: Annotated[str, Field(description="Text between demonstrations.")] = "\n\n"


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Show demonstrations from the support, score label words, calibrate."""
    from fewtune.methods.answer import answer_by_label_words, choose_pattern
    from fewtune.methods.plan import Plan
    from fewtune.predictors.manifest import ContextPart
    from fewtune.predictors.network import Unchanged
    from fewtune.prompts.calibration import estimate_prior
    from fewtune.prompts.demonstrations import choose_demonstrations, write_context
    from fewtune.records import DemonstrationNotes

    assert model is not None
    forward = model.forward(model.frozen)
    answer = answer_by_label_words(model, task, draw, settings.pattern, "vocabulary")
    chosen = choose_demonstrations(draw.support, settings.demonstrations, rng)
    before = write_context(answer.encoder, choose_pattern(task, settings.pattern), chosen, settings.separator)
    score = partial(answer.prompt(forward).score, before=before)
    prior = estimate_prior(score, settings.calibration, task.fields, draw.pool)
    known = None if prior is None else tuple(map(float, prior))
    shown = DemonstrationNotes(rows=[e.row_id for e in chosen], log_prior=list(known or [0.0] * len(task.labels)))
    return Plan(
        predictor=answer.predict_with(forward, Unchanged(), [ContextPart(before=before, log_prior=known)]),
        forward=forward,
        total_parameters=model.total_parameters,
        report=lambda: answer.report().model_copy(update={"demonstrations": shown}),
    )


METHOD = Method(
    name="in_context",
    summary="demonstrations before the query, best-scoring label word after it; nothing trains",
    source_url="https://arxiv.org/abs/2005.14165",
    settings=Settings,
    plan=plan,
    uses_fit_seed=lambda settings: settings.demonstrations != 0,
    needs_pool=lambda settings: settings.calibration == "batch",
)
