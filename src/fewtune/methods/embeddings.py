"""Embeddings: logistic regression on the frozen model's embedding of each row's plain text, scaled to length one.

Owns its settings and the regression that contrastive fine-tuning ends in too. What embeds is the model's own pooling:
of a sentence encoder what it was trained for. Two texts of a row are read as one, or apart and compared. Source:
Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.class_weights import ClassWeight
from fewtune.methods.penalty import InversePenalty, choose_penalty
from fewtune.plurals import pluralise
from fewtune.prompts.template import plain_template

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.forward import Forward
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.predictors.language import Prompting
    from fewtune.predictors.network import Change
    from fewtune.predictors.predictor import Predictor
    from fewtune.records import PenaltyNotes
    from fewtune.tasks.base import Draw, Task

USUAL_PENALTY = 1.0
"""What usually suits rows of length one, as embeddings are scaled."""


@dataclass(frozen=True)
class Settings:
    """How strongly the regression is held back."""

    inverse_penalty: InversePenalty = "auto"
    class_weight: ClassWeight = None
    texts: Annotated[
        Literal["apart"] | None,
        Field(
            description="How the two texts of a row are read. apart: each by itself, and how their embeddings compare "
            "is read beside them; null: as one text."
        ),
    ] = None


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where texts are read apart and a row has not two."""
    if settings.texts is None or len(task.fields) == 2:
        return None
    return f"texts: apart compares the two texts of a row, and {task.name} has {pluralise(len(task.fields), 'text')}."


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Embed the support, fit the regression and score rows by it."""
    from fewtune.methods.plan import Plan
    from fewtune.predictors.compared import count_features
    from fewtune.predictors.network import Unchanged
    from fewtune.records import MethodNotes, PromptNotes

    assert model is not None
    forward = model.forward(model.frozen)
    prompting = prompt_plainly(model, task, forward)
    if settings.texts == "apart":
        first, second = (plain_template([field]) for field in task.fields)
        prompting = replace(prompting, template=first, compared=second)
    predictor, penalty = read_embeddings(model, task, draw, prompting, Unchanged(), settings)
    return Plan(
        predictor=predictor,
        forward=forward,
        trainable_parameters=count_weights(
            task, model.width if prompting.compared is None else count_features(model.width)
        ),
        total_parameters=model.total_parameters,
        report=lambda: MethodNotes(
            prompt=PromptNotes(template=prompting.template, cut=prompting.encoder.count_cut()), penalty=penalty
        ),
    )


def prompt_plainly(model: LanguageModel, task: Task, forward: Forward) -> Prompting:
    """Rows as their plain texts, read as embeddings of length one."""
    from fewtune.engine.readouts import StateReadout
    from fewtune.predictors.language import Prompting
    from fewtune.prompts.tokens import Encoder

    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    return Prompting(forward, encoder, plain_template(task.fields, encoder.between), StateReadout(unit=True))


def read_embeddings(
    model: LanguageModel,
    task: Task,
    draw: Draw,
    prompting: Prompting,
    change: Change,
    settings: Settings,
) -> tuple[Predictor, PenaltyNotes | None]:
    """A predictor by a logistic regression on the support's embeddings as the network gives them now."""
    from fewtune.methods.held_out import know_label
    from fewtune.predictors.language import LanguageScorer
    from fewtune.predictors.predictor import Predictor
    from fewtune.predictors.regression import Regression

    features, labels = prompting.read(draw.support), [know_label(row.label) for row in draw.support]
    penalty = choose_penalty(
        settings.inverse_penalty,
        USUAL_PENALTY,
        labels,
        lambda fitted, others: (features[fitted], features[others]),
        settings.class_weight,
    )
    fitted = Regression.fit(features, labels, len(task.labels), penalty.inverse, class_weight=settings.class_weight)
    regression = fitted.soften(penalty.temperature)
    scorer = LanguageScorer(model, prompting, change, reader=regression)
    return Predictor(task.labels, task.fields, scorer), penalty.notes


def count_weights(task: Task, features: int) -> int:
    """Weights and intercepts of the regression on so many features."""
    rows = len(task.labels) if len(task.labels) > 2 else 1
    return rows * (features + 1)


METHOD = Method(
    name="embeddings",
    trains=False,
    summary="logistic regression on frozen embeddings of the plain texts",
    source_url="https://arxiv.org/abs/1908.10084",
    settings=Settings,
    plan=plan,
    uses_fit_seed=lambda settings: False,
    defaults_tried={"sentiment": 9, "cola": 9, "qqp": 2, "snli": 2},
    uses_pattern=lambda settings: False,
    skip_reason=skip_reason,
)
