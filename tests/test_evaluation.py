"""A model's metrics on labelled rows, with intervals of the choice of rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from fewtune.analysis.stability import Bounds
from fewtune.fitting.evaluation import measure


def test_a_models_metrics_have_intervals_of_the_choice_of_rows() -> None:
    gold = np.arange(200) % 2
    right = np.arange(200) >= 40
    probabilities = np.where(right[:, None], np.eye(2)[gold], np.eye(2)[1 - gold]) * 0.8 + 0.1
    found = measure(probabilities, gold.astype(np.int64))
    accuracy = found.metrics["accuracy"]
    assert accuracy.mean == pytest.approx(0.8)
    assert accuracy.low is not None and accuracy.low == pytest.approx(0.8 - 1.96 * (0.16 / 200) ** 0.5, abs=0.006)
    assert found.metrics["log_loss"].mean == pytest.approx(-0.8 * np.log(0.9) - 0.2 * np.log(0.1))
    assert found.confusion.tolist() == [[80, 20], [20, 80]] and found.majority == 0.5
    # Twelve of twelve: Wilson's interval ends at n / (n + z^2).
    sure = measure(np.eye(2)[gold[:12]] * 0.8 + 0.1, gold[:12].astype(np.int64)).metrics
    assert sure["accuracy"] == Bounds(1.0, pytest.approx(12 / (12 + 1.96**2), abs=1e-4), 1.0)
    # Of others it ends where so many rows that all were right no longer rule out the worst that one row could do.
    for name, score in (("mcc", matthews_corrcoef), ("macro_f1", partial(f1_score, average="macro"))):
        worst = min(score(gold[:12], np.where(np.arange(12) == row, 1 - gold[:12], gold[:12])) for row in range(12))
        assert sure[name] == Bounds(1.0, pytest.approx(max(0, 1 + (1 - worst) * np.log(0.025)), abs=1e-6), 1.0)


def test_a_models_metrics_have_no_interval_of_every_value_there_is() -> None:
    found = measure(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])).metrics
    assert (found["macro_f1"].low, found["macro_f1"].high) == (None, None), "of two rows both may be right, or none"
    assert found["accuracy"].low is not None and found["accuracy"].low > 0, "Wilson's says something"
