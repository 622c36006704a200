"""Summaries of how widely scores lie, against answers worked out by hand."""

from __future__ import annotations

import pytest

from fewtune.inference.spread import Spread, interquartile_mean, split_spread


def test_interquartile_mean_averages_the_middle_half() -> None:
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -50]) == pytest.approx(3.5)
    assert interquartile_mean([1, 2, 9]) == pytest.approx(4.0)


def test_spread_over_draws_is_freed_of_what_fit_seeds_add() -> None:
    # Cell means 2 and 6: variance 8. Within: (1 + 1 + 1 + 1) / 2 = 2, of which a mean of two seeds keeps 1.
    spread = split_spread({(0, ""): [1.0, 3.0], (1, ""): [5.0, 7.0]})
    assert spread == Spread(pytest.approx(7**0.5), pytest.approx(2**0.5), None)


def test_spread_over_patterns_is_freed_of_what_is_particular_to_a_draw() -> None:
    # Rows are draws, columns patterns: [[0, 4], [2, 10]]. Grand mean 4; draw means 2, 6; pattern means 1, 7.
    # Residuals +-1, so the unexplained variance is 4 with one degree of freedom; draws: 8 - 4/2, patterns: 18 - 4/2.
    spread = split_spread({(0, "a"): [0.0], (0, "b"): [4.0], (1, "a"): [2.0], (1, "b"): [10.0]})
    assert spread == Spread(pytest.approx(6**0.5), None, pytest.approx(4.0))


def test_spread_of_one_value_is_unknown_and_never_negative() -> None:
    assert split_spread({(0, ""): [0.5]}) == Spread(None, None, None)
    # The two draws' means are equal while seeds differ: the component is cut at 0.
    assert split_spread({(0, ""): [1.0, 3.0], (1, ""): [3.0, 1.0]}).draws == 0.0
