"""Logistic regression as plain arrays, fitted by scikit-learn and saved without a pickle.

Owns the fit, the arithmetic of reading it and the score of a label that it never saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fewtune.predictors.manifest import RegressionPart
from fewtune.predictors.tensors import TensorForm

if TYPE_CHECKING:
    from scipy.sparse import spmatrix

LOWEST = -30.0
"""Log-probability of a label that the regression never saw, and the least of any."""


LARGEST_ALONE = 4_000_000
"""Features of all rows that one thread takes."""


def fit_logistic(
    features: np.ndarray | spmatrix,
    labels: Sequence[int | None],
    inverse_penalty: float,
    *,
    intercept: bool = True,
    class_weight: Literal["balanced"] | None = None,
) -> Any:
    """scikit-learn's `LogisticRegression` on features (rows, features); many labels of few rows each are no mistake."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # Small products take longer on several threads, and many times as long beside another busy process.
    threads = 1 if features.shape[0] * features.shape[1] <= LARGEST_ALONE else None
    with warnings.catch_warnings(), threadpool_limits(threads, "blas"):
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        regression = LogisticRegression(
            C=inverse_penalty, max_iter=1000, fit_intercept=intercept, class_weight=class_weight
        )
        return regression.fit(features, labels)


@dataclass(frozen=True)
class Regression:
    """Weights (classes or 1, features), intercepts, and where features are standardised their means and scales."""

    classes: tuple[int, ...]
    labels: int
    weights: np.ndarray
    intercepts: np.ndarray
    means: np.ndarray | None = None
    scales: np.ndarray | None = None

    @property
    def parameters(self) -> int:
        return int(self.weights.size + self.intercepts.size)

    def log_probabilities(self, features: np.ndarray | spmatrix) -> np.ndarray:
        """Log-probabilities over all labels, (rows, labels), from features (rows, features)."""
        if self.means is not None and self.scales is not None:
            features = (features - self.means) / self.scales
        scores: np.ndarray = features @ self.weights.T + self.intercepts
        if len(self.classes) == 2:
            known = -np.logaddexp(0.0, np.concatenate([scores, -scores], axis=1))
        else:
            shifted = scores - scores.max(axis=1, keepdims=True)
            known = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        full = np.full((len(known), self.labels), LOWEST)
        full[:, self.classes] = np.maximum(known, LOWEST)
        return full

    def list_classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (classes, features) and offsets (classes,), for plain features, whose softmax the regression is."""
        weights, offsets = self.weights, self.intercepts
        if len(self.classes) == 2:  # scikit-learn keeps one row, the second class's against the first
            weights, offsets = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], offsets])
        if self.means is not None and self.scales is not None:
            weights = weights / self.scales
            offsets = offsets - weights @ self.means
        return weights, offsets

    def soften(self, temperature: float) -> Regression:
        """The same regression with its scores divided by a temperature: the answers stay, probabilities move."""
        return replace(self, weights=self.weights / temperature, intercepts=self.intercepts / temperature)

    def describe(self) -> RegressionPart:
        return RegressionPart(classes=self.classes, labels=self.labels)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"weights": self.weights, "intercepts": self.intercepts, "means": self.means, "scales": self.scales}
        return {f"regression.{name}": array for name, array in found.items() if array is not None}

    @staticmethod
    def fit(
        features: np.ndarray | spmatrix,
        labels: Sequence[int | None],
        count: int,
        inverse_penalty: float,
        scaler: Any = None,
        class_weight: Literal["balanced"] | None = None,
    ) -> Regression:
        """Fit labels (rows,) of `count` possible ones; a `StandardScaler`, given, is fitted on the features first.

        `class_weight` is what rows count, as `LogisticRegression` has it.
        """
        if scaler is not None:
            features = scaler.fit_transform(features)
        fitted = fit_logistic(features, labels, inverse_penalty, class_weight=class_weight)
        return Regression(
            tuple(int(label) for label in fitted.classes_),
            count,
            fitted.coef_,
            fitted.intercept_,
            None if scaler is None else scaler.mean_,
            None if scaler is None else scaler.scale_,
        )

    @staticmethod
    def list_forms(part: RegressionPart, features: int, there: Collection[str]) -> dict[str, TensorForm]:
        """The tensors of a regression on so many features; means and scales where either is there."""
        rows = 1 if len(part.classes) == 2 else len(part.classes)
        forms = {"regression.weights": TensorForm((rows, features)), "regression.intercepts": TensorForm((rows,))}
        if "regression.means" in there or "regression.scales" in there:
            forms |= dict.fromkeys(("regression.means", "regression.scales"), TensorForm((features,)))
        return forms

    @staticmethod
    def rebuild(part: RegressionPart, arrays: Mapping[str, np.ndarray]) -> Regression:
        return Regression(
            part.classes,
            part.labels,
            arrays["regression.weights"],
            arrays["regression.intercepts"],
            arrays.get("regression.means"),
            arrays.get("regression.scales"),
        )
