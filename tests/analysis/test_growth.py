"""A learning curve is carried on to twice as many rows, with an interval that knows how few draws there were."""

from __future__ import annotations

import numpy as np
import pytest

from fewtune.analysis.growth import expect_growth
from fewtune.errors import DataError


def test_a_power_of_the_rows_is_carried_on() -> None:
    # Errors .4, .2 and .1 at 8, 16 and 32 rows: half at twice as many, so .05 at 64.
    found = expect_growth({8: [0.6, 0.6], 16: [0.8, 0.8], 32: [0.9, 0.9]}, test_rows=1000)
    assert (found.shots, found.score, found.gain) == (32, pytest.approx(0.9), pytest.approx(0.05))
    assert found.low == pytest.approx(found.high) == pytest.approx(0.95)


def test_the_interval_is_of_the_draws_spread() -> None:
    scores = {8: [0.6, 0.7], 16: [0.6, 0.7]}  # flat in each draw: .6 and .7 are expected
    apart = expect_growth(scores, test_rows=1000)
    # Two draws: t = 12.706, deviation .0707, over the root of two.
    assert apart.high == 1.0 and apart.low == pytest.approx(max(0, 0.65 - 12.706 * 0.05), abs=1e-3)
    shared = expect_growth({8: [0.6, 0.62, 0.64], 16: [0.6, 0.62, 0.64]}, 1000, apart=0.25)
    alone = expect_growth({8: [0.6, 0.62, 0.64], 16: [0.6, 0.62, 0.64]}, 1000)
    assert (shared.high - shared.expected) / (alone.high - alone.expected) == pytest.approx(2**0.5)


def test_test_rows_that_all_draws_share_widen_it() -> None:
    found = expect_growth({8: [0.8, 0.8], 16: [0.8, 0.8]}, test_rows=100, tests_shared=True)
    assert found.high - found.expected == pytest.approx(1.96 * 0.04)


def test_a_curve_that_falls_by_chance_is_taken_for_a_flat_one() -> None:
    found = expect_growth({8: [0.8, 0.8], 32: [0.7, 0.7]}, test_rows=100)
    assert found.expected == pytest.approx(1 - np.sqrt(0.2 * 0.3)), "between the two, and no lower further on"
    assert found.score == pytest.approx(0.7) and found.gain == pytest.approx(0.0), "a flat curve gains nothing"


def test_a_method_without_errors_is_not_foretold_any() -> None:
    found = expect_growth({18: [1.0, 1.0], 37: [1.0, 1.0], 74: [1.0, 1.0]}, test_rows=24)
    assert (found.score, found.expected, found.high) == (1.0, 1.0, 1.0)
    assert found.low == pytest.approx(1 - 3 / 24), "none of 24 rows: 12.5 % may be wrong, by the rule of three"


@pytest.mark.parametrize(
    "scores",
    [
        {18: [0.95, 0.5, 0.6], 37: [0.5, 0.95, 0.6]},
        {18: [0.8, 0.5, 0.8], 37: [0.5, 0.8, 0.85]},
        {18: [1.0, 0.9], 37: [0.0, 1.0]},
    ],
)
def test_draws_that_fall_do_not_foretell_less_than_there_is(scores: dict[int, list[float]]) -> None:
    for shared in (False, True):
        found = expect_growth(scores, 100, tests_shared=shared)
        assert min(map(np.mean, scores.values())) <= found.expected <= 1
        assert 0 <= found.low <= found.expected <= found.high <= 1


def test_intervals_hold_what_twice_as_many_rows_bring() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        draw = rng.normal(0, 0.02, 5)
        scores = {n: 1 - 0.8 * n**-0.4 + draw + rng.normal(0, 0.01, 5) for n in (8, 16, 32)}
        found = expect_growth({n: list(values) for n, values in scores.items()}, test_rows=200)
        held += found.low <= 1 - 0.8 * 64**-0.4 <= found.high
    assert held >= 0.93 * 300


@pytest.mark.parametrize("scores", [{8: [0.5, 0.6]}, {8: [0.5], 16: [0.6]}, {8: [0.5, 0.6], 16: [0.6]}])
def test_too_few_are_refused(scores: dict[int, list[float]]) -> None:
    with pytest.raises(DataError, match="a learning curve needs two numbers of rows"):
        expect_growth(scores, 100)
