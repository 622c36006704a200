"""Scores over all labels that rows may have, told from the labels of one row: against samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fewtune.fitting.absent_labels import find_absent_labels


@pytest.mark.parametrize("steepness", [0.0, 1.0])
def test_over_many_samples_the_share_of_rows_of_absent_labels_is_right(steepness: float) -> None:
    shares = 1.0 / np.arange(1, 151) ** steepness
    shares /= shares.sum()
    rng, told, true = np.random.default_rng(0), [], []
    for _ in range(200):
        drawn = rng.choice(150, size=300, p=shares)
        told.append(find_absent_labels(np.unique(drawn, return_inverse=True)[1]).share)
        true.append(shares[np.bincount(drawn, minlength=150) == 0].sum())
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.01)


def test_over_many_samples_macro_f1_is_that_of_all_labels() -> None:
    """A label's rows are right the more often the more of them there are to learn from, and wrong ones go astray."""
    rng, told, true, known, errors = np.random.default_rng(0), [], [], [], []
    for _ in range(100):
        drawn = rng.integers(0, 100, size=200)
        counts = np.bincount(drawn, minlength=100)
        gold, learnt = np.repeat(np.arange(100), np.where(counts > 1, counts, 0)), counts - 1
        answered = answer(rng, gold, learnt)
        absent = find_absent_labels(np.unique(drawn, return_inverse=True)[1])
        before = mean_f1(gold, answered)
        score, error = absent.lower_macro_f1(before, 0.0, gold, answered)
        new = np.repeat(np.arange(100), 50)
        told.append(score), errors.append(error), known.append(before)
        true.append(mean_f1(new, answer(rng, new, np.maximum(counts - 1, counts > 0))))
    assert abs(np.mean(told) - np.mean(true)) < 0.04 < np.mean(known) - np.mean(true)
    assert min(errors) > 0


def answer(rng: np.random.Generator, gold: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Answers to rows by a model that had `learnt` rows of each label; a label of which it had none it never gives."""
    right = rng.random(len(gold)) < np.minimum(0.5 + 0.1 * learnt[gold], 0.9) * (learnt[gold] > 0)
    known = np.flatnonzero(learnt > 0)
    return np.where(right, gold, rng.choice(known, size=len(gold)))


def mean_f1(gold: np.ndarray, answered: np.ndarray) -> float:
    labels = np.union1d(gold, answered)
    right = np.array([((gold == each) & (answered == each)).sum() for each in labels])
    total = np.array([(gold == each).sum() + (answered == each).sum() for each in labels])
    return float((2 * right / total).mean())


def test_a_file_whose_labels_all_have_several_rows_is_stated_as_its_folds_show() -> None:
    gold = np.array([0, 0, 1, 1, 1])
    absent = find_absent_labels(gold)
    assert absent.lower_accuracy(0.8) == 0.8
    assert absent.lower_macro_f1(0.7, 0.1, gold, gold) == (0.7, 0.1)


def test_a_row_of_an_absent_label_is_answered_wrong() -> None:
    absent = find_absent_labels(np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 3]))
    assert absent.share == 0.2
    assert absent.lower_accuracy(0.9) == pytest.approx(0.72)
