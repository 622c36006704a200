"""Expected losses and risks: by hand, by adding up the curve step by step, and against what is simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from fewtune.inference.allocation import find_threats
from fewtune.inference.differences import Difference
from fewtune.inference.expected_loss import ExpectedLoss, expect_loss
from made_up_scores import make_difference

WITHIN = 0.03

DIFFERENCES = st.builds(
    make_difference,
    mean=st.floats(-0.5, 0.5),
    error=st.floats(1e-3, 0.3),
    draws=st.integers(2, 12),
    lent=st.floats(0.0, 20.0),
)


def bound_chance(rivals: Mapping[str, Difference], by: np.ndarray) -> np.ndarray:
    """The curve, made of SciPy's laws."""
    tails = [stats.t.sf((by - each.mean) / each.error, each.freedom) for each in rivals.values()]
    return np.minimum(1.0, np.sum(tails, axis=0))


def test_of_two_alike_a_choice_is_expected_to_lose_half_a_mean_deviation() -> None:
    """Nearly normal, as surely better as worse: the mean of what is above 0 of a normal law is error / sqrt(2 pi)."""
    even = expect_loss({"other": make_difference(0.0, 0.02, draws=100_000)}, WITHIN, 1.0)
    assert even.expected == pytest.approx(0.02 / math.sqrt(2 * math.pi), rel=1e-4)
    assert even.risk == pytest.approx(stats.norm.sf(1.5), rel=1e-3)


def test_what_is_far_below_costs_nothing_and_what_is_far_above_costs_its_lead() -> None:
    below = expect_loss({"other": make_difference(-0.3, 0.005, draws=20)}, WITHIN, 1.0)
    assert below.expected < 1e-9 and below.risk < 1e-9
    above = expect_loss({"other": make_difference(0.3, 0.005, draws=20)}, WITHIN, 1.0)
    assert above.expected == pytest.approx(0.3, rel=1e-6) and above.risk == pytest.approx(1.0)


def test_no_rival_takes_nothing_and_one_of_a_single_draw_may_take_all_there_is() -> None:
    assert expect_loss({}, WITHIN, 1.0) == ExpectedLoss(0.0, 0.0)
    known, single = make_difference(0.01, 0.02), make_difference(-0.4, 0.02, draws=1)
    assert expect_loss({"known": known, "single": single}, WITHIN, 2.0) == ExpectedLoss(2.0, 1.0)


def test_the_greatest_threat_is_the_one_that_adds_most() -> None:
    rivals = {
        "near": make_difference(-0.01, 0.01, draws=9),
        "unsure": make_difference(-0.03, 0.08, draws=9),
        "far": make_difference(-0.3, 0.01, draws=9),
    }
    assert list(find_threats(rivals, 1.0)) == ["unsure", "near", "far"]


def test_a_loss_is_no_more_than_the_metric_can_differ() -> None:
    rivals = {str(place): make_difference(0.9, 0.5, draws=2) for place in range(9)}
    assert expect_loss(rivals, WITHIN, 1.0) == ExpectedLoss(1.0, 1.0)
    assert expect_loss(rivals, WITHIN, 2.0).expected > 1.5, "of a correlation"


@settings(max_examples=15, deadline=None)
@given(st.lists(DIFFERENCES, min_size=1, max_size=5))
def test_the_loss_is_the_area_under_the_curve(differences: list[Difference]) -> None:
    """Added up in a hundred thousand steps, which are finer where laws bend."""
    rivals = {str(place): each for place, each in enumerate(differences)}
    found = expect_loss(rivals, WITHIN, 1.0)
    bends = [np.clip(each.mean + each.error * np.linspace(-8, 8, 5000), 0.0, 1.0) for each in differences]
    places = np.unique(np.concatenate([np.linspace(0.0, 1.0, 30_000), *bends]))
    assert found.expected == pytest.approx(integrate.trapezoid(bound_chance(rivals, places), places), abs=1e-6)
    assert found.risk == pytest.approx(float(bound_chance(rivals, np.array([WITHIN]))[0]), abs=1e-12)
    assert 0 <= found.expected <= 1 and 0 <= found.risk <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(DIFFERENCES, min_size=2, max_size=6), st.floats(0.0, 0.2))
def test_more_rivals_and_higher_ones_never_take_less(differences: list[Difference], higher: float) -> None:
    rivals = {str(place): each for place, each in enumerate(differences)}
    whole = expect_loss(rivals, WITHIN, 1.0)
    fewer = expect_loss(dict(list(rivals.items())[1:]), WITHIN, 1.0)
    raised = expect_loss({**rivals, "0": replace(differences[0], mean=differences[0].mean + higher)}, WITHIN, 1.0)
    for less, more in ((fewer, whole), (whole, raised)):
        assert less.expected <= more.expected + 1e-12 and less.risk <= more.risk + 1e-12
    assert expect_loss(rivals, 2 * WITHIN, 1.0).risk <= whole.risk
    alone = [each.integrate_excess(0.0, 1.0) for each in differences]
    assert max(alone) - 1e-9 <= whole.expected <= sum(alone) + 1e-9


@pytest.mark.parametrize("alike", [-0.15, 0.0, 0.5, 0.95])
def test_no_dependence_of_rivals_makes_the_loss_larger_than_is_said(alike: float) -> None:
    rng, means = np.random.default_rng(0), np.array([-0.02, -0.01, 0.0, 0.01, -0.05])
    covariance = 0.02**2 * (np.full((5, 5), alike) + (1 - alike) * np.eye(5))
    leads = rng.multivariate_normal(means, covariance, size=100_000).max(axis=1)
    rivals = {str(place): make_difference(float(mean), 0.02, draws=10_000) for place, mean in enumerate(means)}
    found = expect_loss(rivals, WITHIN, 1.0)
    assert np.maximum(0.0, leads).mean() <= found.expected <= 2 * np.maximum(0.0, leads).mean()
    assert (leads > WITHIN).mean() <= found.risk + 0.002
