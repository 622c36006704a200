"""Who gets the next draws, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewtune.inference.allocation import Allocation, allocate_draws, find_paused, find_threats
from fewtune.inference.differences import Difference, Rivals, Variance
from fewtune.inference.expected_loss import expect_loss
from made_up_scores import make_difference

WITHIN, SPAN = 0.03, 1.0
MANY = 1000


def make_rival(mean: float, own: float, best: float, counts: tuple[int, int] = (3, 3)) -> Difference:
    """A rival so far above the best bet, both of so large variances and so many draws, independent by draw."""
    varies = (Variance(own), Variance(best), Variance(own + best))
    return Difference(mean, (mean,) * min(counts), counts, *varies)


def allocate(rivals: Rivals, count: int, **most: int) -> Allocation:
    limits = {name: most.get(name, MANY) for name in ("bet", *rivals)}
    return allocate_draws("bet", rivals, limits, count, WITHIN, SPAN)


def test_a_draw_goes_where_it_lowers_the_variance_of_a_mean_most() -> None:
    """sigma^2 / (n (n + 1)): with 3 draws each a twelfth of the variance, with 6 a 42nd."""
    assert allocate({"rival": make_rival(-0.01, own=0.0004, best=0.0003)}, 1).draws == {"rival": 1}
    assert allocate({"rival": make_rival(-0.01, own=0.0003, best=0.0004)}, 1).draws == {"bet": 1}
    # .0004 / 42 is less than .0003 / 12, and more than .0001 / 12.
    assert allocate({"rival": make_rival(-0.01, own=0.0004, best=0.0003, counts=(6, 3))}, 1).draws == {"bet": 1}
    assert allocate({"rival": make_rival(-0.01, own=0.0004, best=0.0001, counts=(6, 3))}, 1).draws == {"rival": 1}


def test_draws_are_given_one_by_one_as_they_change_what_follows() -> None:
    """.0004 and .0003: a twelfth of both, a twentieth and a twelfth, a twentieth of both, a thirtieth and a 20th."""
    rivals = {"rival": make_rival(-0.01, own=0.0004, best=0.0003)}
    given = [allocate(rivals, count).draws for count in range(5)]
    assert given == [{}, {"rival": 1}, {"rival": 1, "bet": 1}, {"rival": 2, "bet": 1}, {"rival": 2, "bet": 2}]
    then = {"rival": rivals["rival"].foresee(5, 5)}
    assert allocate(rivals, 4).loss == expect_loss(then, WITHIN, SPAN)
    assert allocate(rivals, 0).loss == expect_loss(rivals, WITHIN, SPAN)


def test_the_larger_threat_is_asked_and_not_the_larger_variance() -> None:
    rivals = {"near": make_rival(0.0, own=0.0004, best=0.0001), "far": make_rival(-0.08, own=0.0016, best=0.0001)}
    threats = find_threats(rivals, SPAN)
    assert list(threats) == ["near", "far"] and threats["near"] > threats["far"] > 0
    assert threats["near"] == rivals["near"].integrate_excess(0.0, SPAN)
    assert allocate(rivals, 1).draws == {"near": 1}


def test_none_gets_more_than_it_may_have() -> None:
    rivals = {"near": make_rival(0.0, own=0.0004, best=0.0001), "far": make_rival(-0.02, own=0.0009, best=0.0001)}
    assert allocate(rivals, 9, near=5, bet=3).draws == {"near": 2, "far": 7}, "the next threat comes"
    assert allocate(rivals, 9, near=5, far=4, bet=3).draws == {"near": 2, "far": 1}, "fewer, where none may have more"
    assert allocate(rivals, 9, near=3, far=3, bet=3).draws == {}
    assert allocate(rivals, 9, near=3, far=3, bet=8).draws == {"bet": 5}


def test_of_equals_the_best_bet_is_first_and_then_the_first_by_name() -> None:
    rival = make_rival(0.0, own=0.0003, best=0.0003)
    assert allocate({"rival": rival}, 1).draws == {"bet": 1}
    noisy = make_rival(0.0, own=0.0004, best=0.0003)
    for order in (("b", "a"), ("a", "b")):
        assert allocate(dict.fromkeys(order, noisy), 1).draws == {"a": 1}, "whichever way the rivals stand"


def test_rivals_that_add_next_to_nothing_are_paused_and_go_on_where_they_add_more() -> None:
    near, far = make_rival(0.0, own=0.0004, best=0.0001), make_rival(-0.3, own=0.0004, best=0.0001, counts=(9, 9))
    rivals = {"near": near, "far": far}
    assert find_threats(rivals, SPAN)["far"] < WITHIN / 60 < find_threats(rivals, SPAN)["near"]
    assert find_paused(rivals, WITHIN, SPAN) == ["far"]
    assert allocate(rivals, 5, near=3, bet=3).draws == {}, "a paused one gets none even where others may have no more"
    closer = {**rivals, "far": replace(far, mean=-0.01)}
    assert find_paused(closer, WITHIN, SPAN) == []
    assert find_paused({"far": far}, WITHIN, SPAN) == [], "not where it is so of all"


def test_a_rival_that_one_draw_tells_of_comes_first() -> None:
    single = make_difference(-0.4, 0.01, draws=1)
    rivals = {"near": make_rival(0.0, own=0.0004, best=0.0001), "single": single}
    assert list(find_threats(rivals, SPAN)) == ["single", "near"]
    assert find_threats(rivals, SPAN)["single"] == SPAN


def test_without_a_rival_the_bet_alone_has_nobody_to_be_told_from() -> None:
    assert allocate({}, 4).draws == {} and allocate({}, 4).loss.expected == pytest.approx(0.0)


def test_what_is_handed_over_stays_as_it_was() -> None:
    rivals = {"near": make_rival(0.0, own=0.0004, best=0.0001)}
    most = {"bet": 9, "near": 9}
    allocate_draws("bet", rivals, most, 6, WITHIN, SPAN)
    assert rivals["near"].counts == (3, 3) and most == {"bet": 9, "near": 9}
