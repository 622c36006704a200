"""Labels that look wrong: the rule of confident learning, few rows of a sound model, none of one that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fewtune.fitting.suspects import find_suspects
from fewtune.inference.majority import is_above_majority


def make_answers(knows: float, seed: int) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Probabilities (116, 5), labels, and the three rows of wrong labels; what a model knows is added to the shares."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(5), [47, 36, 19, 9, 5])
    wrong = rng.choice(36, 3, replace=False)
    gold = true.copy()
    gold[wrong] = 1
    scores = np.log(np.bincount(gold) / len(gold)) + rng.normal(0, 0.4, (len(gold), 5))
    scores[np.arange(len(gold)), true] += knows * rng.random(len(gold))
    odds = np.exp(scores)
    return odds / odds.sum(axis=1, keepdims=True), gold, set(wrong.tolist())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("knows", [0.3, 0.5])
def test_a_weak_model_doubts_half_of_the_rows_and_hardly_any_is_listed(knows: float, seed: int) -> None:
    probabilities, gold, _ = make_answers(knows, seed)
    assert (probabilities.argmax(axis=1) != gold).sum() > 50, "so many have another label as their likeliest"
    assert len(find_suspects(probabilities, gold)) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_of_a_sound_model_few_rows_are_listed_and_wrong_labels_are_among_the_first(seed: int) -> None:
    probabilities, gold, wrong = make_answers(8.0, seed)
    assert (probabilities.argmax(axis=1) != gold).sum() > 8
    found = find_suspects(probabilities, gold)
    assert wrong & set(found[:3]) and len(found) <= 6


def test_nothing_is_listed_by_a_model_that_is_not_clearly_above_the_commonest_label() -> None:
    gold = np.repeat([0, 1], [16, 4])
    probabilities = np.where(gold[:, None] == [0, 1], 0.9, 0.1)
    probabilities[[0, 1, 16, 17]] = [
        [0.1, 0.9],
        [0.1, 0.9],
        [0.9, 0.1],
        [0.9, 0.1],
    ]  # 16 of 20 are right, as many are 0
    assert find_suspects(probabilities, gold) == []
    probabilities[[1, 16, 17]] = [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]
    assert find_suspects(probabilities, gold) == [0]


@given(seed=st.integers(0, 10_000), labels=st.integers(2, 6), rows=st.integers(20, 60))
def test_the_rule_is_that_of_confident_learning_far_below_the_threshold(seed: int, labels: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    gold = np.concatenate([np.arange(labels), rng.integers(0, labels, rows)])
    probabilities = rng.dirichlet(np.ones(labels), len(gold))
    right = rng.random(len(gold)) < 0.85
    probabilities[right, gold[right]] += 2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    members = {label: [row for row in range(len(gold)) if gold[row] == label] for label in range(labels)}
    members = {label: places for label, places in members.items() if len(places) > 1}
    thresholds = {
        label: sum(probabilities[row, label] for row in places) / len(places) for label, places in members.items()
    }
    margins = {}
    for label, places in members.items():
        for row in places:
            own = probabilities[row, label]
            above = [
                probabilities[row, other]
                for other, threshold in thresholds.items()
                if other != label and probabilities[row, other] >= threshold and probabilities[row, other] > own
            ]
            if own < 0.2 * thresholds[label] and above:
                margins[row] = own - max(above)
    judged = np.concatenate(list(members.values()))
    right = probabilities[judged].argmax(axis=1) == gold[judged]
    assume(is_above_majority(right, max(map(len, members.values())) / len(judged)))
    assert find_suspects(probabilities, gold) == sorted(margins, key=lambda row: margins[row])


def test_the_only_row_of_a_label_is_not_judged_and_no_row_is_taken_for_its_label() -> None:
    probabilities = np.full((21, 3), 0.05)
    gold = np.repeat([0, 1, 2], [10, 10, 1])
    probabilities[np.arange(20), gold[:20]] = 0.9
    probabilities[3] = [0.1, 0.3, 0.6]  # likeliest is a label that no other row has; then the other one
    probabilities[20] = np.nan
    assert find_suspects(probabilities, gold) == []
    probabilities[3] = [0.03, 0.95, 0.02]
    assert find_suspects(probabilities, gold) == [3]
    assert find_suspects(np.full((3, 3), np.nan), np.arange(3)) == []


def test_a_model_is_above_the_majority_where_wilsons_lower_limit_is() -> None:
    # Wilson 1927, by hand: 55 of 116 right have .3993 as their one-sided lower limit, 20 of 20 .8809.
    correct = np.arange(116) < 55
    assert not is_above_majority(correct, 47 / 116)
    assert is_above_majority(correct, 0.399) and not is_above_majority(correct, 0.400)
    assert is_above_majority(np.ones(20), 0.88) and not is_above_majority(np.ones(20), 0.882)
    assert not is_above_majority(np.ones(20), 1.0) and not is_above_majority([], 0.5)
    assert is_above_majority(np.full(116, 55 / 116), 0.399), "shares of repeats count as rows do"
