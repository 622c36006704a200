"""TF-IDF and logistic regression: what the words alone say; a baseline that needs no language model.

Owns its settings. Source: scikit-learn's text classification, https://scikit-learn.org/stable/modules/feature_extraction.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.class_weights import ClassWeight
from fewtune.methods.penalty import InversePenalty, choose_penalty
from fewtune.prompts.template import plain_template, render

if TYPE_CHECKING:
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


USUAL_PENALTY = 10.0
"""What usually suits rows of length one, as TF-IDF scales them."""


@dataclass(frozen=True)
class Settings:
    """How words are counted and how strongly the regression is held back."""

    longest_phrase: Annotated[int, Field(ge=1, le=5, description="Longest run of words counted as one feature.")] = 2
    inverse_penalty: InversePenalty = "auto"
    class_weight: ClassWeight = None


def plan(settings: Settings, model: Any, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Fit the regression on the support's words and score rows by it."""
    from fewtune.methods.held_out import know_label
    from fewtune.methods.plan import Plan
    from fewtune.predictors.predictor import Predictor
    from fewtune.predictors.regression import Regression
    from fewtune.predictors.words import WordScorer, make_vectoriser
    from fewtune.records import MethodNotes

    template = plain_template(task.fields)
    texts = [render(template, e.fields) for e in draw.support]
    labels = [know_label(e.label) for e in draw.support]

    def count_words(fitted: np.ndarray, others: np.ndarray) -> tuple[Any, Any]:
        counted = make_vectoriser(settings.longest_phrase, "runs_and_signs")
        return counted.fit_transform([texts[i] for i in fitted]), counted.transform([texts[i] for i in others])

    penalty = choose_penalty(settings.inverse_penalty, USUAL_PENALTY, labels, count_words, settings.class_weight)
    vectoriser = make_vectoriser(settings.longest_phrase, "runs_and_signs")
    features = vectoriser.fit_transform(texts)
    fitted = Regression.fit(features, labels, len(task.labels), penalty.inverse, class_weight=settings.class_weight)
    regression = fitted.soften(penalty.temperature)
    words = tuple(vectoriser.get_feature_names_out().tolist())
    scorer = WordScorer(template, settings.longest_phrase, words, vectoriser.idf_, regression, "runs_and_signs")
    return Plan(
        Predictor(task.labels, task.fields, scorer),
        trainable_parameters=regression.parameters,
        report=lambda: MethodNotes(penalty=penalty.notes),
    )


METHOD = Method(
    name="tfidf",
    trains=False,
    revision=2,  # single signs are words where a script puts no spaces between them
    summary="TF-IDF features and logistic regression",
    source_url="https://scikit-learn.org/stable/modules/feature_extraction.html",
    settings=Settings,
    plan=plan,
    uses_model=False,
    uses_fit_seed=lambda settings: False,
    defaults_tried={"sentiment": 11, "cola": 11, "qqp": 2, "snli": 2},
    baseline=True,
)
