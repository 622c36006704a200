"""Folds test every row once a repeat, but a label's only row never; every training part has every label."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtune.errors import DataError
from fewtune.fitting.folds import find_unjudged, make_folds

SOME_LABELS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60).filter(lambda x: len(set(x)) < len(x))


@given(labels=SOME_LABELS, folds=st.integers(2, 10), repeats=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_row_that_can_be_judged_is_tested_once_a_repeat_by_a_fold_that_knows_its_label(
    labels: list[str], folds: int, repeats: int, seed: int
) -> None:
    parts = make_folds(labels, folds, repeats, np.random.default_rng(seed))
    counts = Counter(labels)
    alone = [place for place, label in enumerate(labels) if counts[label] == 1]
    assert find_unjudged(labels).tolist() == alone
    each = len(parts) // repeats
    assert each == min(folds, len(labels) - len(alone))
    for repeat in range(repeats):
        tests = parts[repeat * each : (repeat + 1) * each]
        assert sorted(np.concatenate(tests).tolist()) == [i for i in range(len(labels)) if i not in alone]
        assert max(map(len, tests)) - min(map(len, tests)) <= 1
        for test in tests:
            assert {labels[i] for i in range(len(labels)) if i not in set(test.tolist())} == set(labels)
        for label in set(labels):
            shares = [sum(labels[i] == label for i in test) for test in tests]
            assert max(shares) - min(shares) <= 1  # so a label with fewer rows than folds is in as many folds as rows


def test_repeats_differ_and_equal_seeds_give_equal_folds() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    made = [make_folds(labels, 2, 2, np.random.default_rng(seed)) for seed in (3, 3)]
    assert [part.tolist() for part in made[0]] == [part.tolist() for part in made[1]]
    assert made[0][0].tolist() not in [part.tolist() for part in made[0][2:]]


def test_folds_that_cannot_be_made_say_why() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"1 fold and 1 repeat asked. Ask at least 2 folds and 1 repeat"):
        make_folds(["a", "a"], 1, 1, rng)
    with pytest.raises(DataError, match=r"3 rows and no two of one label.* Give at least two rows of a label"):
        make_folds(["a", "b", "c"], 2, 1, rng)
