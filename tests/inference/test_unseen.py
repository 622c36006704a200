"""What test rows may hide, by hand and by trying every other answer of every row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewtune.inference.answers import DrawAnswers
from fewtune.inference.unseen import (
    RowsWeighed,
    SetWeight,
    look_at_pair,
    look_at_score,
    measure_row_weight,
    reach_unseen,
    weigh_rows,
)
from fewtune.metrics.counts import SCORES, count_answers


def answer(gold: list[int], *predicted: list[int], labels: int = 2) -> DrawAnswers:
    return DrawAnswers(np.array(gold), np.array(predicted), labels, np.arange(len(gold), dtype=np.int32))


def test_of_an_accuracy_a_row_adds_its_share() -> None:
    tested = measure_row_weight(answer([0, 1, 0, 1], [0, 0, 0, 0]), "accuracy").weigh(0.5)
    assert look_at_pair(tested, tested).weight == look_at_score(tested).weight == pytest.approx(0.5 / 4)
    # The rule of three: 3.0 of a hundred rows at 5 %.
    assert reach_unseen([SetWeight(1 / 100, 0.0)], 0.05) == pytest.approx(0.02996, abs=1e-5)
    assert reach_unseen((), 0.05) == 0.0


def test_a_correlation_moves_most_by_the_first_row_that_differs() -> None:
    """All 600 rows are called common; one of the 180 others called rightly alone has sqrt(.7 / .3 / 599)."""
    gold = [0] * 420 + [1] * 180
    tested = measure_row_weight(answer(gold, [0] * 600), "mcc")
    found = look_at_pair(tested, tested)
    assert tested.constant and found.weight == pytest.approx(math.sqrt(420 / 180 / 599))
    # What happens to .4 % of rows is seen on none of 600 with a chance of 9 %, and has an MCC of 9.7 points.
    assert reach_unseen([SetWeight(found.weight, 0.0)], 0.09) > 0.097
    assert look_at_score(tested).weight == 0.0, "answers that are all one have none"


def test_a_macro_f1_moves_by_its_rarest_label() -> None:
    # Two of label 2, none found: one found is an F1 of 2 / 3 for it, and 20 / 21 for label 0 where 20 / 22 stood.
    found = measure_row_weight(
        answer([0] * 10 + [1] * 10 + [2] * 2, [0] * 10 + [1] * 10 + [0] * 2, labels=3), "macro_f1"
    )
    assert look_at_pair(found, found).weight == pytest.approx((2 / 3 + 20 / 21 - 20 / 22) / 3)


def test_of_a_label_that_shows_how_methods_differ_nothing_is_hidden() -> None:
    """Label 1 has eight rows, of which three are answered in another way, and label 0 none of fifty."""
    gold = [0] * 50 + [1] * 8
    right, other, hardly = (gold[:50] + [0] * wrong + [1] * (8 - wrong) for wrong in (0, 3, 2))
    first, second, third = (measure_row_weight(answer(gold, said), "macro_f1") for said in (right, other, hardly))
    assert look_at_pair(first, third).weight == max(first.weights[1], third.weights[1]) > 0.03
    assert look_at_pair(first, second).weight == max(first.weights[0], second.weights[0]) < 0.06
    assert look_at_score(second).weight == second.weights[0]
    assert look_at_score(third).weight == third.weights.max()
    seeds = measure_row_weight(answer(gold, right, other), "macro_f1")
    assert look_at_pair(seeds, seeds).weight == seeds.weights[0], "fit seeds that differ show it too"


@pytest.mark.parametrize("metric", ["mcc", "macro_f1", "accuracy"])
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_no_row_answered_otherwise_changes_a_score_by_more(metric: str, labels: int) -> None:
    rng, score = np.random.default_rng(labels), SCORES[metric]
    for rows in (6, 25, 60):
        gold = rng.integers(labels, size=rows)
        predicted = np.where(rng.random(rows) < 0.7, gold, rng.integers(labels, size=rows))
        now = float(score(count_answers(gold, predicted, labels)))
        most = 0.0
        for place in range(rows):
            for other in set(range(labels)) - {int(predicted[place])}:
                moved = predicted.copy()
                moved[place] = other
                most = max(most, abs(float(score(count_answers(gold, moved, labels))) - now))
        found = measure_row_weight(answer(gold.tolist(), predicted.tolist(), labels=labels), metric)
        weight = float(found.weights.max())
        assert weight >= most - 1e-12
        assert metric == "accuracy" or weight == pytest.approx(most)


def test_one_that_always_says_the_same_is_taken_at_its_word_beside_one_that_does_not() -> None:
    gold = [0] * 42 + [1] * 18
    constant = measure_row_weight(answer(gold, [0] * 60), "mcc")
    varied = measure_row_weight(answer(gold, [0] * 41 + [1] * 19), "mcc")
    assert look_at_pair(constant, varied).weight == look_at_pair(varied, constant).weight == varied.weights.max()
    assert varied.weights.max() < look_at_pair(constant, constant).weight == constant.weights.max()


def test_a_difference_that_is_one_on_all_rows_of_a_label_shows_nothing_of_how_often_it_comes() -> None:
    gold = [0] * 70 + [1] * 30
    always = [measure_row_weight(answer(gold, [said] * 100), "mcc") for said in (0, 1)]
    assert look_at_pair(*always).weight == pytest.approx(math.sqrt(70 / 30 / 99)), "two that collapsed, either way"
    gold = [0] * 94 + [1] * 6
    leader, constant = (measure_row_weight(answer(gold, said), "macro_f1") for said in ([0] * 91 + [1] * 9, [0] * 100))
    assert look_at_pair(leader, constant).weight == look_at_score(leader).weight == leader.weights[1]


def test_a_label_that_is_said_for_the_first_time_counts_among_all() -> None:
    """Label 3 stands in other draws alone: a row of label 2 that is given it adds a label without any right answer."""
    gold = [0] * 50 + [1] * 50 + [2] * 20
    said = [0] * 46 + [1] * 50 + [0] * 4 + [0] * 20
    found = measure_row_weight(answer(gold, said, labels=4), "macro_f1")
    now, moved = (
        float(SCORES["macro_f1"](count_answers(np.array(gold), np.array(s), 4))) for s in (said, [*said[:-1], 3])
    )
    assert found.weights[2] == pytest.approx(now - moved)


def test_the_test_set_whose_rows_add_most_counts() -> None:
    """Half the weight is on 200 rows of each draw's own, half on 200 that all 20 draws share."""
    draws = [
        [RowsWeighed(1000 + 200 * draw + np.arange(200), 0.5 / 200), RowsWeighed(np.arange(200), 0.5 / 200)]
        for draw in range(20)
    ]
    own, shared = weigh_rows(draws)
    assert (own.weight, own.fresh) == (pytest.approx(0.5 / 200 / 20), pytest.approx(1 / 20))
    assert (shared.weight, shared.fresh) == (pytest.approx(0.5 / 200), 0.0)
    assert reach_unseen([own, shared], 0.05) == pytest.approx(-math.log(0.05) * 0.5 / 200)
    # Forty draws of rows of their own add half as much; to those that are shared none adds any.
    assert reach_unseen([own], 0.05, further=20) == pytest.approx(-math.log(0.05) * 0.5 / 200 / 40)
    assert reach_unseen([own, shared], 0.05, further=20) == pytest.approx(-math.log(0.05) * 0.5 / 200)
    assert (own.shared, shared.shared) == (False, True)
    assert weigh_rows(()) == ()
