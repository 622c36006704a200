"""How candidates compare by their answers to the same rows, against computations of another kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score

from fewtune.fitting.prior import BASE, FLAT, Prior
from fewtune.fitting.standing import INFLATION, Answered, Standings, bound_score, compare, is_settled

ROWS = 400


def answer(right: np.ndarray, gold: np.ndarray, places: np.ndarray | None = None) -> Answered:
    """Answers to two-label rows that are right where told."""
    places = np.arange(len(gold)) if places is None else places
    given = np.where(right, gold, 1 - gold)[places]
    return Answered(places, np.log(np.where(np.eye(2, dtype=bool)[given], 0.9, 0.1)))


def make_rows(seed: int = 0) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, ROWS), rng


def test_of_two_candidates_the_loss_is_that_of_a_normal_difference() -> None:
    gold, rng = make_rows()
    first, second = rng.random(ROWS) < 0.85, rng.random(ROWS) < 0.83
    found = compare({"a": answer(first, gold), "b": answer(second, gold)}, gold, 2, "accuracy", 0.03)
    difference = second.astype(float) - first
    mean, error = difference.mean(), np.sqrt(INFLATION * difference.var() / ROWS + 1 / ROWS**2)
    loss = error * norm.pdf(mean / error) + mean * norm.cdf(mean / error)  # of a normal variable, what is above 0
    assert found.find("a").expected_loss == pytest.approx(loss, rel=0.1)
    assert found.find("a").risk == pytest.approx(norm.sf((0.03 - mean) / error), abs=0.02)
    assert found.find("b").expected_loss == pytest.approx(loss - mean, rel=0.1)
    assert found.best.name == ("a" if mean < 0 else "b") and found.best.gain == 0


def test_as_many_rows_as_are_named_settle_what_so_few_do_not() -> None:
    gold, places = np.arange(60) % 2, np.arange(60)
    right = {"better": places >= 9, "worse": (places < 4) | (places >= 16)}

    def settle(times: int) -> Standings:
        answered = {name: answer(np.tile(each, times), np.tile(gold, times)) for name, each in right.items()}
        return compare(answered, np.tile(gold, times), 2, "accuracy", 0.03)

    few = settle(1)
    assert few.enough_rows is not None and few.enough_rows > 60
    assert not is_settled(few.best.expected_loss, few.best.risk, 0.03)
    enough = settle(round(few.enough_rows / 60) + 1)
    assert is_settled(enough.best.expected_loss, enough.best.risk, 0.03)


def test_a_candidate_that_answered_some_rows_is_compared_on_these() -> None:
    gold, rng = make_rows()
    easy = np.arange(ROWS) < 100
    whole = np.where(easy, True, rng.random(ROWS) < 0.6)
    part = np.where(easy, rng.random(ROWS) < 0.95, True)
    found = compare(
        {"whole": answer(whole, gold), "part": answer(part, gold, np.flatnonzero(easy))}, gold, 2, "accuracy", 0.03
    )
    assert found.find("part").score == pytest.approx(whole.mean() + part[easy].mean() - 1.0)
    assert found.best.name == "whole" and found.find("part").rows == 100


def test_no_score_is_more_than_a_score_can_be() -> None:
    gold, _ = make_rows()
    hard = np.arange(ROWS) < 40
    whole, part = ~hard, np.ones(ROWS, dtype=bool)  # right on all but the rows that the other one was right on
    found = compare(
        {"whole": answer(whole, gold), "part": answer(part, gold, np.flatnonzero(hard))}, gold, 2, "accuracy", 0.03
    )
    assert found.find("part").score == 1.0
    for each in found.standings:
        low, high = bound_score(each.score, each.error, each.rows, "accuracy")
        assert 0 <= low <= each.score <= high + 1e-9 and high <= 1


def test_of_candidates_that_answer_alike_in_part_losses_are_those_of_rows_drawn_anew() -> None:
    """Three candidates whose answers go together, against a bootstrap of rows with as much variance more."""
    gold, rng = make_rows(3)
    shared = rng.random(ROWS) < 0.8
    right = [np.where(rng.random(ROWS) < 0.85, shared, rng.random(ROWS) < p) for p in (0.8, 0.75, 0.85)]
    found = compare({str(n): answer(each, gold) for n, each in enumerate(right)}, gold, 2, "accuracy", 0.03)
    drawn = np.stack(right)[:, rng.integers(0, ROWS, (4000, ROWS))].mean(axis=2)
    means = np.stack(right).mean(axis=1)[:, None]
    scores = means + np.sqrt(INFLATION) * (drawn - means)
    losses = (scores.max(axis=0) - scores).mean(axis=1)
    assert [found.find(str(n)).expected_loss for n in range(3)] == pytest.approx(losses.tolist(), abs=0.002)


def test_what_few_rows_show_alike_is_not_known_to_be_alike() -> None:
    gold = np.arange(8) % 2
    right = np.ones(8, dtype=bool)
    found = compare({"a": answer(right, gold), "b": answer(right, gold)}, gold, 2, "accuracy", 0.03)
    assert found.best.expected_loss > 0.02 and found.best.risk > 0.2


def test_the_best_of_many_alike_is_too_high_by_what_is_told() -> None:
    """Forty candidates that all have .7: the best of them looks better by what the optimism says, on average."""
    excess, told = [], []
    for seed in range(20):
        gold, rng = make_rows(seed)
        answered = {str(n): answer(rng.random(ROWS) < 0.7, gold) for n in range(40)}
        found = compare(answered, gold, 2, "accuracy", 0.03)
        excess.append(max(each.score for each in found.standings) - 0.7)
        told.append(found.optimism)
    assert np.mean(told) == pytest.approx(np.mean(excess), rel=0.5)
    alone = compare({"a": answer(np.ones(ROWS, dtype=bool), gold)}, gold, 2, "accuracy", 0.03)
    assert alone.optimism == 0 and alone.best.expected_loss == 0


def test_the_interval_of_an_accuracy_is_wilsons_of_fewer_rows() -> None:
    low, high = bound_score(0.8, 0.0, 150, "accuracy")
    wilson = binomtest(80, 100).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    assert bound_score(0.9, 0.1, 150, "macro_f1") == pytest.approx((0.9 - 1.95996 * 0.1, 1.0), abs=1e-4)


def test_of_few_rows_of_many_labels_one_right_answer_more_moves_a_macro_f1_by_what_it_changes() -> None:
    """Eight of forty rows have seven labels; by themselves they would tell a macro F1 of another kind."""
    gold = np.arange(40) % 10
    known = np.where(np.arange(40) % 4 == 3, (gold + 1) % 10, gold)
    part = np.arange(8)
    more = known.copy()
    more[3] = gold[3]

    def tell(given: np.ndarray, places: np.ndarray) -> Answered:
        return Answered(places, np.log(np.where(np.eye(10, dtype=bool)[given[places]], 0.91, 0.01)))

    answered = {"whole": tell(known, np.arange(40)), "part": tell(more, part)}
    found = compare(answered, gold, 10, "macro_f1", 0.03)
    before, after = (f1_score(gold, given, average="macro") for given in (known, more))
    assert found.find("whole").score == pytest.approx(before)
    assert found.find("part").score == pytest.approx(after) and after > before
    assert not found.best.risk < 0.05, "one row of eight settles nothing"


def test_the_prior_of_a_difference_weighs_as_its_spread_says() -> None:
    gold, rng = make_rows()
    first, second = rng.random(ROWS) < 0.85, rng.random(ROWS) < 0.83
    priors = {"a": Prior(0.40, 0.02), "b": Prior(0.50, 0.03)}
    answered = {"a": answer(first, gold), "b": answer(second, gold)}
    found = compare(answered, gold, 2, "accuracy", 0.03, priors)
    difference = second.astype(float) - first
    variance, before = INFLATION * difference.var() / ROWS + 1 / ROWS**2, 0.02**2 + 0.03**2
    mean = (difference.mean() / variance + 0.1 / before) / (1 / variance + 1 / before)
    error = (1 / variance + 1 / before) ** -0.5
    loss = error * norm.pdf(mean / error) + mean * norm.cdf(mean / error)
    assert found.find("a").expected_loss == pytest.approx(loss, rel=0.05)
    assert found.best.name == "b" and found.best.score < found.find("a").score, "a score is what its rows say"


def test_what_is_expected_of_one_candidate_alone_says_nothing() -> None:
    gold, rng = make_rows()
    answered = {name: answer(rng.random(ROWS) < 0.8, gold) for name in "abc"}
    alone = compare(answered, gold, 2, "accuracy", 0.03, {"a": Prior(0.9, 0.01), "b": FLAT})
    without = compare(answered, gold, 2, "accuracy", 0.03)
    figures = ("name", "score", "expected_loss", "risk", "gain")
    told, expected = ([[getattr(s, each) for each in figures] for s in f.standings] for f in (alone, without))
    assert told == expected and alone.optimism == without.optimism


def test_a_gain_that_there_is_no_room_for_is_not_expected() -> None:
    """The base has all rows right but one in twenty, where other files had one in five wrong to gain ten points on."""
    gold, rng = make_rows()
    base, other = np.arange(ROWS) % 20 > 0, rng.random(ROWS) < 0.9
    priors = {BASE: Prior(0.0, 0.02, 0.2), "other": Prior(0.1, 0.02, 0.2)}
    answered = {BASE: answer(base, gold), "other": answer(other, gold)}
    found = compare(answered, gold, 2, "accuracy", 0.03, priors).find("other").prior
    assert (found.mean, found.spread) == pytest.approx((0.1 / 4, 0.02 / 4), rel=0.1)
    without = {name: answered[name] for name in ("other",)} | {"third": answer(base, gold)}
    likewise = compare(without, gold, 2, "accuracy", 0.03, {"other": priors["other"], "third": priors[BASE]})
    assert likewise.find("other").prior == found, "without the base the best score tells what there is to gain"
    all_right = {name: answer(np.ones(ROWS, dtype=bool), gold) for name in (BASE, "other")}
    certain = compare(all_right, gold, 2, "accuracy", 0.03, priors)
    assert 0 < certain.find("other").prior.mean < 0.005 and certain.best.expected_loss < 0.01


def test_with_records_a_choice_by_few_rows_loses_less_and_states_what_it_loses() -> None:
    """Files whose candidates differ as the records say, thirty rows each."""
    means, spread, rows = np.array([0.0, 0.08, 0.05, -0.1]), 0.05, 30
    priors = {str(place): Prior(float(mean), spread) for place, mean in enumerate(means)}
    rng = np.random.default_rng(1)
    lost: dict[bool, list[float]] = {True: [], False: []}
    told, raw, stated = [], [], []
    for _ in range(300):
        truth = 0.7 + means + spread * rng.standard_normal(4)
        # Folds' scores vary by more than rows alone say: as the inflation has it.
        gold = np.arange(rows) % 2
        right = rng.random((4, round(rows / INFLATION))) < truth[:, None]
        right = right[:, np.arange(rows) % right.shape[1]]
        answered = {str(place): answer(each, gold) for place, each in enumerate(right)}
        for known in (True, False):
            found = compare(answered, gold, 2, "accuracy", 0.03, priors if known else None)
            own = truth[int(found.best.name)]
            lost[known].append(truth.max() - own)
            if known:
                told.append(found.best.expected_loss)
                raw.append(found.best.score - own)
                stated.append(found.best.score - found.optimism - own)
    assert np.mean(lost[True]) < 0.75 * np.mean(lost[False])
    assert 0.67 < np.mean(told) / np.mean(lost[True]) < 1.5
    assert abs(np.mean(stated)) < 0.02 < 0.04 < np.mean(raw)
