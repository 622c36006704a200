"""The penalty of a logistic regression on frozen features: given, or chosen by cross-validation on its rows.

Owns the setting and the choice, by the log loss of labelled rows that cross-validation holds out. A strong penalty
makes probabilities too even whatever the answers are worth, so a penalty is judged at the temperature that suits it,
and the regression keeps that temperature. An L2 penalty is a normal prior on the weights and its inverse strength
(scikit-learn's C) the prior's variance, which does not go by the number of rows: what some choose holds for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import LARGEST_NUMBER, SMALLEST_NUMBER
from fewtune.methods.class_weights import ClassWeight, weigh_labels

if TYPE_CHECKING:
    from fewtune.records import PenaltyNotes

InversePenalty = Annotated[
    Annotated[float, Field(ge=SMALLEST_NUMBER, le=LARGEST_NUMBER)] | Literal["auto"],
    Field(
        description="Inverse strength of the L2 penalty (scikit-learn's C). auto: by the log loss of labelled rows "
        "that cross-validation holds out, at the temperature that suits it, which the regression keeps; of several as "
        "good the one nearest to what usually suits such features."
    ),
]
MakeFeatures = Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]
"""Features (rows, width), arrays or sparse, of the rows at some places, and of others as the first ones make them."""

POWERS = (-2, -1, 0, 1, 2, 3)
"""Powers of ten by which the values that are tried differ from the one that usually suits."""
FOLDS = 5
MOST_ROWS = 2000
"""Labelled rows that choose, at most; of more an even share of each label."""
ENOUGH_ANSWERED = 400
"""Rows held out and answered after which no further fold is fitted: the loss is known well enough."""
_SPREAD = 0.5
"""Standard deviation of the log temperature before any row is seen."""


@dataclass(frozen=True)
class Penalty:
    """The inverse strength that a regression is fitted with, and the temperature that its scores are divided by."""

    inverse: float
    temperature: float = 1.0
    notes: PenaltyNotes | None = None
    """How it was chosen; None where a number was given."""


def choose_penalty(
    given: float | Literal["auto"],
    usual: float,
    labels: Sequence[int],
    make_features: MakeFeatures,
    class_weight: ClassWeight = None,
) -> Penalty:
    """The penalty given, or the one that suits these labels (rows,) and their features, around the usual one.

    Of those whose mean loss is within one standard error of the lowest, over the same rows, it is the one nearest to
    the usual one, the stronger of two as near; the usual one where no two rows can be held out. Nothing here is random:
    equal rows choose alike.
    """
    from fewtune.predictors.temperature import fit_temperature, normalise
    from fewtune.records import PenaltyNotes, TriedPenalty

    if given != "auto":
        return Penalty(given)
    tried = [usual * 10.0**power for power in POWERS]
    scores, gold, folds = _answer_rows(np.asarray(labels), make_features, tried, class_weight)
    if len(gold) < 2:
        return Penalty(usual, notes=PenaltyNotes(inverse_penalty=usual))
    temperatures = [fit_temperature(each, gold, _SPREAD) for each in scores]
    scaled = [normalise(each / temperature) for each, temperature in zip(scores, temperatures, strict=True)]
    losses = -np.stack([each[np.arange(len(gold)), gold] for each in scaled])
    losses *= weigh_labels(class_weight, gold.tolist(), scores.shape[2])[gold]
    means = losses.mean(axis=1)
    further = losses - losses[means.argmin()]
    errors = further.std(axis=1, ddof=1) / math.sqrt(len(gold))
    as_good = np.flatnonzero(further.mean(axis=1) <= errors)
    chosen = min(as_good, key=lambda place: (abs(POWERS[place]), POWERS[place]))
    notes = PenaltyNotes(
        inverse_penalty=tried[chosen],
        temperature=temperatures[chosen],
        tried=[
            TriedPenalty(inverse_penalty=value, temperature=temperature, log_loss=float(mean))
            for value, temperature, mean in zip(tried, temperatures, means, strict=True)
        ],
        folds=folds,
        rows=len(gold),
    )
    return Penalty(tried[chosen], temperatures[chosen], notes)


def _answer_rows(
    labels: np.ndarray,
    make_features: MakeFeatures,
    tried: Sequence[float],
    class_weight: ClassWeight,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Log-probabilities (values tried, rows held out, labels), these rows' labels, and of how many folds they are."""
    from fewtune.predictors.regression import Regression

    chosen, fold_of = deal_folds(labels)
    count = int(labels.max()) + 1
    scores, gold = [np.empty((len(tried), 0, count))], [np.empty(0, int)]
    folds = 0
    for folds in range(1, int(fold_of.max()) + 2):
        fitted, left = chosen[fold_of != folds - 1], chosen[fold_of == folds - 1]
        features, others = compress(*make_features(fitted, left))
        known = labels[fitted].tolist()
        fits = [Regression.fit(features, known, count, value, class_weight=class_weight) for value in tried]
        scores.append(np.stack([fit.log_probabilities(others) for fit in fits]))
        gold.append(labels[left])
        if sum(map(len, gold)) >= ENOUGH_ANSWERED:
            break
    return np.concatenate(scores, axis=1), np.concatenate(gold), folds


def deal_folds(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows that choose a penalty, and the fold that holds out each of them, -1 where none does.

    Rows lie label by label, in an order that is drawn alike every time, and are dealt in turn: folds are as large as
    one another, have each label's share, and never hold all rows of a label. So a label's only row is in every fit. Of
    more than MOST_ROWS an even share is taken, with two rows of each label at least.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    if len(order) > MOST_ROWS:
        spread = np.linspace(0, len(order) - 1, MOST_ROWS).astype(int)
        order = order[np.unique(np.concatenate([spread, starts, np.minimum(starts + 1, ends - 1)]))]
    _, places, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    several = counts[places] > 1
    folds = np.full(len(order), -1)
    folds[several] = np.arange(several.sum()) % FOLDS
    return order, folds


def compress(features: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    """The same features with no more columns than rows are fitted: a penalised regression's weights lie in their span.

    Products of rows with one another are kept, and so are what is fitted and its answers, but for rounding.
    """
    rows, width = features.shape
    if rows >= width:
        return features, others
    products, further = features @ features.T, others @ features.T
    if not isinstance(products, np.ndarray):
        products, further = products.toarray(), further.toarray()
    values, vectors = np.linalg.eigh(products)
    kept = values > values[-1] * rows * np.finfo(products.dtype).eps
    if not kept.any():  # rows that are all zero
        return features, others
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, further @ (vectors[:, kept] / roots)
