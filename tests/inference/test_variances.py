"""Variances that moderate each other, and what shared labelled rows hide: by hand, and against what is simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewtune.inference.variances import (
    MOST_BORROWED,
    Moderation,
    estimate_moderation,
    vary_by_shared_support,
)


def test_variances_that_are_alike_lend_each_other_the_most_that_is_lent() -> None:
    """Smyth's moments by hand: alike to the last digit, five variances of three draws are worth four degrees."""
    found = estimate_moderation([1e-4] * 5, [2] * 5)
    assert found.freedom == 4.0
    # digamma(1) = -0.57722, digamma(2) = 0.42278: log variance = log 0.0001 + 0.57722 + 0.42278 - log 2.
    assert found.variance == pytest.approx(1e-4 * math.exp(0.57722 + 0.42278 - math.log(2)), rel=1e-4)


def test_variances_that_are_unlike_lend_next_to_nothing_and_few_lend_nothing() -> None:
    unlike = estimate_moderation([1e-8, 1e-6, 1e-4, 1e-2, 1.0], [2] * 5)
    assert 0 < unlike.freedom < 0.5
    assert estimate_moderation([0.01] * 4, [2] * 4) == Moderation(0.0, 0.0)
    assert estimate_moderation([0.0] * 9, [0] * 9) == Moderation(0.0, 0.0), "one draw has no variance"


def test_variances_of_one_draw_neither_count_nor_change_what_the_others_say() -> None:
    known = [0.01, 0.02, 0.03, 0.01, 0.02]
    assert estimate_moderation([*known, 0.0, 0.0], [4] * 5 + [0, 0]) == estimate_moderation(known, [4] * 5)
    assert estimate_moderation([*known[:4], 0.0, 0.0], [4] * 4 + [0, 0]).freedom == 0


def test_a_variance_of_nothing_is_taken_as_a_very_small_one() -> None:
    found = estimate_moderation([0.0, 0.01, 0.01, 0.01, 0.01], [4] * 5)
    assert math.isfinite(found.variance) and 0 < found.freedom < 1


@pytest.mark.parametrize("freedoms", [(4,), (2, 3, 7, 11)], ids=["equal", "unequal"])
def test_the_prior_of_simulated_variances_is_found_again(freedoms: tuple[int, ...]) -> None:
    """Variances are .0025 times 3.5 over a chi-squared of 3.5 degrees, each seen with degrees of its own."""
    rng, many = np.random.default_rng(0), 40_000
    own = np.resize(freedoms, many)
    true = 0.0025 * 3.5 / rng.chisquare(3.5, many)
    found = estimate_moderation((true * rng.chisquare(own) / own).tolist(), own.tolist())
    assert found.freedom == pytest.approx(3.5, rel=0.05)
    assert found.variance == pytest.approx(0.0025, rel=0.03)


def test_moderated_variances_are_nearer_to_the_true_ones() -> None:
    rng, freedoms = np.random.default_rng(1), np.resize([2, 2, 4, 9], 12)
    raw_error, error = 0.0, 0.0
    for _ in range(200):
        true = 0.01 * 6 / rng.chisquare(6, 12)
        raw = true * rng.chisquare(freedoms) / freedoms
        prior = estimate_moderation(raw.tolist(), freedoms.tolist())
        moderated = [prior.moderate(*each)[0] for each in zip(raw, freedoms.tolist(), strict=True)]
        raw_error += float((np.log(raw / true) ** 2).mean())
        error += float((np.log(moderated / true) ** 2).mean())
    assert error < 0.5 * raw_error


def test_a_variance_is_drawn_to_the_prior_by_degrees_of_freedom() -> None:
    prior = Moderation(1.0, 3.0)
    assert prior.moderate(5.0, 2.0) == pytest.approx(((2 * 5 + 3 * 1) / 5, 5.0))
    assert Moderation().moderate(5.0, 2.0) == (5.0, 2.0)


def test_few_draws_borrow_no_more_than_twice_what_they_have_themselves() -> None:
    """A method that failed in two of five draws has two degrees of freedom, and four are lent to it, not eight."""
    prior = estimate_moderation([1.0] * 5, [4] * 5)
    assert prior.freedom == MOST_BORROWED * 4 == 8.0
    assert prior.moderate(3.0, 2.0) == pytest.approx(((2 * 3 + 4 * prior.variance) / 6, 6.0))
    assert prior.moderate(0.0, 0.0) == (0.0, 0.0), "one draw stays without a variance"


def test_supports_that_draws_share_add_what_draws_differ_by_beyond_their_rows() -> None:
    assert vary_by_shared_support(variance=1.0, row_variance=0.0, share=0.4) == pytest.approx(2 / 3)
    assert vary_by_shared_support(variance=1.0, row_variance=0.4, share=0.5) == pytest.approx(0.6)
    assert vary_by_shared_support(variance=1.0, row_variance=1.2, share=0.4) == 0.0, "rows alone do as much"
    assert vary_by_shared_support(1.0, 0.0, 1.0) == vary_by_shared_support(1.0, 0.0, 0.9) == pytest.approx(9.0)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_the_mean_over_draws_of_one_file_varies_by_what_is_added(share: float) -> None:
    """Four draws take a share of 50 rows, whose sums are their scores; files are drawn anew, and their rows vary."""
    rng, files, rows, draws = np.random.default_rng(2), 8000, 50, 4
    values = rng.normal(size=(files, 1, rows))
    order = rng.random((files, draws, rows)).argsort(axis=2)
    scores = (values * (order < share * rows)).sum(axis=2)
    seen = float(scores.var(axis=1, ddof=1).mean())
    true = float(scores.mean(axis=1).var())
    assert seen / draws + vary_by_shared_support(seen, 0.0, share) == pytest.approx(true, rel=0.05)
