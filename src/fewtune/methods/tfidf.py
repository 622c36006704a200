"""TF-IDF and logistic regression: what the words alone say; a floor that needs no language model.

Owns its settings. Source: scikit-learn's text classification, https://scikit-learn.org/stable/modules/feature_extraction.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from fewtune.methods.base import LARGEST_NUMBER, SMALLEST_NUMBER, Method
from fewtune.text import plain_template, render

if TYPE_CHECKING:
    from fewtune.engine.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings:
    """How words are counted and how strongly the regression is held back."""

    longest_phrase: Annotated[int, Field(ge=1, le=5, description="Longest run of words counted as one feature.")] = 2
    inverse_penalty: Annotated[
        float,
        Field(
            ge=SMALLEST_NUMBER, le=LARGEST_NUMBER, description="Inverse strength of the L2 penalty (scikit-learn's C)."
        ),
    ] = 10.0


def plan(settings: Settings, model: Any, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Fit the regression on the support's words and score rows by it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from fewtune.engine.plan import Plan

    template = plain_template(task.fields)
    pipeline = make_pipeline(
        # Every character run is a word, so that one-letter words and texts without letters still count.
        TfidfVectorizer(ngram_range=(1, settings.longest_phrase), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]"),
        LogisticRegression(C=settings.inverse_penalty, max_iter=1000),
    )
    pipeline.fit([render(template, e.fields) for e in draw.support], [e.label for e in draw.support])

    def score(rows: Any) -> np.ndarray:
        return complete_scores(
            pipeline.predict_log_proba([render(template, e.fields) for e in rows]),
            pipeline.classes_,
            len(task.labels),
        )

    return Plan(score=score, trainable_parameters=int(pipeline[-1].coef_.size + pipeline[-1].intercept_.size))


def complete_scores(log_probabilities: np.ndarray, classes: np.ndarray, labels: int) -> np.ndarray:
    """Log-probabilities for every label of the task, where a classifier saw only some of them."""
    scores = np.full((len(log_probabilities), labels), -30.0)
    scores[:, classes] = np.maximum(log_probabilities, -30.0)
    return scores


METHOD = Method(
    name="tfidf",
    summary="TF-IDF features and logistic regression",
    source_url="https://scikit-learn.org/stable/modules/feature_extraction.html",
    settings=Settings,
    plan=plan,
    uses_model=False,
    uses_fit_seed=lambda settings: False,
    floor=True,
)
