"""Scores of labelled rows by models that did not see them: each fold of the rows by a model fitted on the others.

Owns the folds. What is learnt from the scores (a temperature, a threshold, suspicious labels) is others' to say.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from fewtune.errors import DataError
from fewtune.plurals import word_number
from fewtune.predictors.predictor import Predictor
from fewtune.running.fit_rows import Row

FOLDS = 3
"""Folds where none are said: two thirds of the rows fit each model."""


def score_folds(
    rows: Sequence[Row],
    labels: Sequence[str],
    fit: Callable[[Sequence[Row], Sequence[str]], Predictor],
    folds: int = FOLDS,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """Log-probabilities (rows, labels in their order) of every row, by a model fitted without its fold.

    Folds hold as many rows of each label, so far as that can be. `say` hears what goes on.
    Raises DataError where a label has fewer rows than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    check_folds(labels, folds)
    scores: np.ndarray | None = None
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(rows)), list(labels))
    for fold, (kept, left) in enumerate(parts, start=1):
        say(f"Calibrating: fold {fold} of {folds}, {word_number(len(kept), 'row')} fitted and {len(left)} answered …")
        predictor = fit([rows[i] for i in kept], [labels[i] for i in kept])
        found = predictor.log_probabilities(predictor.read_rows([rows[i] for i in left]))
        scores = np.empty((len(rows), found.shape[1])) if scores is None else scores
        scores[left] = found
        del predictor  # or the next fold would be fitted beside it
        gc.collect()
    assert scores is not None  # there are two folds at least
    return scores


def choose_folds(labels: Sequence[str]) -> int:
    """FOLDS, or as many as the rarest label has rows; 0 where it has but one, so that no fold can do without it."""
    rarest = min(Counter(labels).values())
    return min(FOLDS, rarest) if rarest > 1 else 0


def check_folds(labels: Sequence[str], folds: int) -> None:
    """Raise DataError where rows of a label are too few for every fold's model to have seen it."""
    rarest, rows = min(Counter(labels).items(), key=lambda item: item[1])
    if folds < 2 or rows < folds:
        raise DataError(
            f"{word_number(folds, 'fold')} and {word_number(rows, 'row')} labelled {rarest!r}: two folds at least, and "
            "a row of every label in each. Give more rows of that label, or fewer folds; 0 folds calibrate nothing."
        )
