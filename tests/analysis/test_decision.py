"""Decisions on small tables: worked out by hand, and that there always is one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fewtune.analysis.decision import (
    Contender,
    Decision,
    Further,
    LookTaken,
    Question,
    decide,
    decide_scored,
    is_near_enough,
)
from fewtune.inference.answers import MethodAnswers
from fewtune.inference.expected_loss import ExpectedLoss
from made_up_scores import make_answers, make_scores

Scores = Mapping[str, Sequence[float | None]]

STEADY: Scores = {"best": [0.90, 0.91, 0.90, 0.91], "cheap": [0.89, 0.90, 0.89, 0.90], "poor": [0.6, 0.6, 0.61, 0.6]}
NOISY: Scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.9, 0.85], "poor": [0.1, 0.1, 0.1]}
SECONDS = {"best": 60.0, "cheap": 2.0, "poor": 1.0}


def contend(name: str, mean: float, seconds: float | None, excluded: str | None = None) -> Contender:
    return Contender(name, mean, seconds, seconds, 1, excluded)


def contend_all(values: Scores, seconds: Mapping[str, float] | None = None) -> list[Contender]:
    means = {name: float(np.mean([each for each in draws if each is not None])) for name, draws in values.items()}
    return [contend(name, mean, 10.0 if seconds is None else seconds[name]) for name, mean in means.items()]


def answer_all(values: Scores, rows: int = 2000, shared: bool = False) -> dict[str, MethodAnswers]:
    return {name: make_answers(draws, rows, shared) for name, draws in values.items()}


def ask(within: float = 0.03) -> Question:
    return Question("made-up", 16, "accuracy", within)


def ask_bound(within: float = 0.03) -> Question:
    return replace(ask(within), guarantee="bound")


def tell(found: Decision) -> tuple[str | None, bool]:
    return None if found.choice is None else found.choice.name, found.settled


def test_the_cheapest_that_is_expected_to_lose_a_sixth_of_the_tolerance_is_used() -> None:
    """`cheap` is a point below, in every draw: half a point may be lost of three, and 1.2 of seven."""
    contenders, answers = contend_all(STEADY, SECONDS), answer_all(STEADY)
    found = decide(ask(0.03), contenders, answers)
    assert tell(found) == ("best", True) and found.further is None and found.best == "best"
    assert [c.name for c in found.contenders] == ["best", "cheap", "poor"]
    losses = {c.name: c.loss for c in found.contenders}
    assert losses["cheap"] is not None and losses["cheap"].expected == pytest.approx(0.01, abs=1e-4)
    assert losses["poor"] is not None and losses["poor"].expected == pytest.approx(0.3025, abs=3e-3)
    assert tell(decide(ask(0.07), contenders, answers)) == ("cheap", True)


def test_a_bound_as_a_guarantee_asks_that_the_bound_be_within_the_tolerance() -> None:
    contenders, answers = contend_all(STEADY, SECONDS), answer_all(STEADY)
    found = decide(ask_bound(), contenders, answers)
    assert tell(found) == ("cheap", True) and found.best == "best" and found.further is None
    assert found.regret is not None and 0.01 < found.regret < 0.03
    assert tell(decide(ask_bound(0.001), contenders, answers)) == ("best", True), "nothing is above it beyond doubt"


def test_a_small_loss_with_a_large_risk_is_not_enough() -> None:
    """The rival is three points below with a standard error of 3.7: more than three above with a chance of 6 %."""
    spread = 0.037 * math.sqrt(19)
    values: Scores = {"a": [0.8] * 20, "b": [0.77 - spread, 0.77 + spread] * 10}
    found = decide_scored(ask(), contend_all(values), make_scores(values))
    assert tell(found) == ("a", False) and found.choice is not None and found.choice.loss is not None
    assert found.choice.loss.expected < 0.03 / 6
    assert found.choice.loss.risk == pytest.approx(stats.t.sf(0.06 / 0.037, 19)) and found.choice.loss.risk > 0.05
    contender = contend("a", 0.8, 1.0)
    for loss, near in (((0.0049, 0.049), True), ((0.0051, 0.01), False), ((0.001, 0.051), False)):
        assert is_near_enough(ask(), replace(contender, loss=ExpectedLoss(*loss))) is near
    assert not is_near_enough(ask(), replace(contender, loss=ExpectedLoss(0.0, 0.0), excluded="failed"))
    assert not is_near_enough(ask(), contender), "of which nothing is known"


def test_of_equally_cheap_ones_the_better_is_used_and_a_price_that_is_not_known_comes_last() -> None:
    values: Scores = {"a": [0.9, 0.901, 0.9], "b": [0.899, 0.9, 0.9], "c": [0.9, 0.9, 0.901]}
    answers = answer_all(values)
    contenders = [contend("a", 0.9003, 5.0), contend("b", 0.8997, 5.0), contend("c", 0.9003, None)]
    assert tell(decide(ask(), contenders, answers)) == ("a", True)
    assert tell(decide(ask(), [contend("a", 0.9003, None), *contenders[1:]], answers)) == ("b", True)


def test_what_is_beyond_the_budget_or_failed_is_not_chosen() -> None:
    answers = answer_all(STEADY)
    failed = [contend("best", 0.905, 60.0), contend("cheap", 0.895, 2.0, "failed in 1 of 4 trials")]
    assert tell(decide(ask(0.07), failed, answers)) == ("best", True)
    left = [contend("cheap", 0.895, 2.0), contend("poor", 0.6, 1.0)]
    limited = decide(ask(), left, answers, beyond_budget=["best"])
    assert limited.best == "cheap" and tell(limited) == ("cheap", True) and limited.limited
    assert limited.choice is not None and limited.choice.loss is not None
    assert limited.choice.loss.expected < 1e-6, "what is beyond the budget is no rival"


def test_one_that_failed_and_cannot_be_chosen_is_still_what_others_lose_to() -> None:
    contenders = [contend("best", 0.905, 60.0, "failed in 1 of 5 trials"), *contend_all(STEADY, SECONDS)[1:]]
    found = decide(ask(), contenders, answer_all(STEADY))
    assert tell(found) == ("cheap", False) and found.choice is not None and found.choice.loss is not None
    assert found.choice.loss.expected == pytest.approx(0.01, abs=1e-4)


def test_the_best_bet_is_the_least_expected_loss_and_further_draws_say_what_they_make_of_it() -> None:
    values: Scores = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.9, 0.78], "poor": [0.1, 0.1, 0.1]}
    contenders = contend_all(values)
    found = decide(ask(0.1), contenders, answer_all(values))
    assert tell(found) == ("a", False)
    losses = {c.name: c.loss.expected for c in found.contenders if c.loss is not None}
    assert min(losses, key=losses.__getitem__) == "a" and losses["a"] > 0.1 / 6
    further = found.further
    assert further is not None and set(further.draws) <= {"a", "b"}, "the poor one is no threat"
    assert further.trials == sum(further.draws.values()) > 0 and further.seconds == 10.0 * further.trials
    assert further.loss is not None and further.loss <= 0.1 / 6
    twice = decide(
        ask(0.1), [replace(each, trials_a_draw=2, seconds_a_draw=None) for each in contenders], answer_all(values)
    )
    assert twice.further is not None and twice.further.draws == further.draws
    assert (twice.further.trials, twice.further.seconds) == (2 * further.trials, None)


def test_further_draws_that_come_out_alike_settle_it() -> None:
    """Two that vary alike and against each other get as many each; with one less it is not settled."""

    def lay(draws: int) -> Scores:
        shape = np.resize([1.0, -1.0], draws)
        shape = 0.04 * (shape - shape.mean()) / np.std(shape, ddof=1)
        return {"a": (0.81 + shape).tolist(), "b": (0.80 - shape).tolist()}

    found = decide_scored(ask(), contend_all(lay(4)), make_scores(lay(4)))
    assert tell(found) == ("a", False) and found.further is not None
    more = found.further.draws["a"]
    assert found.further.draws == {"a": more, "b": more}
    then, less = (decide_scored(ask(), contend_all(lay(n)), make_scores(lay(n))) for n in (4 + more, 3 + more))
    assert then.settled and not less.settled
    assert then.choice is not None and then.choice.loss is not None
    assert then.choice.loss.expected == pytest.approx(found.further.loss)


def test_what_a_bound_is_missing_is_said_in_draws_trials_and_seconds() -> None:
    answers, contenders = answer_all(NOISY), contend_all(NOISY)
    found = decide(ask_bound(0.05), contenders, answers)
    assert tell(found) == ("a", False) and found.further is not None
    draws = found.further.draws
    assert list(draws) == ["a", "b"], "the poor one cannot be the best any more"
    assert draws["a"] == draws["b"] > 0 and found.further.loss is None
    assert found.further.trials == 2 * draws["a"] and found.further.seconds == 20.0 * draws["a"]
    out_of_reach = decide(ask_bound(0.0001), contenders, answers).further
    assert out_of_reach == Further({})
    later = decide(replace(ask_bound(0.05), next_level=0.005), contenders, answers).further
    assert later is not None and later.draws["a"] > draws["a"], "a look with less error"


def test_what_a_bound_is_missing_counts_methods_that_hold_a_bound_and_cannot_be_chosen() -> None:
    values: Scores = {"a": [0.85, 0.84, 0.86, 0.83, 0.86], "c": [0.87, 0.88, 0.88, 0.85, 0.9]}
    contenders = [contend("a", 0.848, 10.0), contend("c", 0.876, 10.0, "failed in 1 of 6 trials")]
    found = decide(ask_bound(), contenders, answer_all(values))
    assert tell(found) == ("a", False)
    assert found.choice is not None and found.choice.regret is not None
    assert found.choice.regret.above == "c", "beyond doubt, and near enough for all that"
    assert found.further is not None and set(found.further.draws) == {"a", "c"}


def test_one_with_few_draws_needs_more_of_them_for_a_bound() -> None:
    values: Scores = {"a": [0.8, 0.9] * 4, "b": [0.8, 0.82]}
    contenders = [contend("a", 0.85, 10.0), contend("b", 0.81, 1.0, "scored on 2 of 8 draws")]
    found = decide(ask_bound(0.05), contenders, answer_all(values))
    assert tell(found) == ("a", False) and found.draws == 8
    further = found.further
    assert further is not None and set(further.draws) == {"a", "b"}
    assert 2 + further.draws["b"] == 8 + further.draws["a"], "as many of each then"
    assert further.trials == further.draws["a"] + further.draws["b"]
    assert further.seconds == 10.0 * further.draws["a"] + further.draws["b"]


@pytest.mark.parametrize("guarantee", ["expected_loss", "bound"])
def test_where_draws_share_too_few_rows_it_is_said_how_many_would_do(guarantee: str) -> None:
    """Two methods are right on 80 rows of 100 each, not on the same ones: no number of draws on those would do."""
    contenders = [contend("a", 0.8, 1.0), contend("b", 0.8, 2.0)]
    question = ask_bound() if guarantee == "bound" else ask()

    def decide_on(rows: int, draws: int) -> Decision:
        first = make_answers([0.8] * draws, rows, shared=True)
        second = {
            key: {name: replace(each, predicted=each.predicted[:, ::-1]) for name, each in sets.items()}
            for key, sets in first.items()
        }
        return decide(question, contenders, {"a": first, "b": second})

    further = decide_on(100, 3).further
    assert further is not None and further.draws == {} and further.rows is not None
    assert decide_on(120 * further.rows.times, further.rows.draws).settled
    assert not decide_on(50 * further.rows.times, further.rows.draws).settled


@pytest.mark.parametrize("guarantee", ["expected_loss", "bound"])
def test_what_neither_draws_nor_rows_would_settle_is_said_so(guarantee: str) -> None:
    values: Scores = {"a": [0.8, 0.7, 0.9], "b": [0.7, 0.9, 0.8]}
    question = ask_bound(1e-4) if guarantee == "bound" else ask(1e-4)
    assert decide(question, contend_all(values), answer_all(values, 1000)).further == Further({})


def test_one_draw_of_each_makes_the_highest_the_best_bet_and_a_second_is_the_least() -> None:
    single = {name: values[:1] for name, values in NOISY.items()}
    for question in (ask(), ask_bound()):
        found = decide(question, contend_all(single), answer_all(single, 1000))
        assert tell(found) == ("a", False) and found.draws == 1 and found.regret is None
        assert found.choice is not None and found.choice.loss is None
        assert found.further == Further({"a": 1, "b": 1, "poor": 1}, 3, 30.0)


@pytest.mark.parametrize("draws", [1, 3])
def test_one_method_has_nobody_to_lose_to(draws: int) -> None:
    found = decide(ask(), [contend("a", 0.8, 1.0)], {"a": make_answers([0.8] * draws)})
    assert tell(found) == ("a", True) and found.regret == 0.0 and found.further is None and found.best == "a"
    assert found.choice is not None and found.choice.loss == ExpectedLoss(0.0, 0.0)


def test_without_a_method_that_may_be_chosen_there_is_no_choice() -> None:
    answers = answer_all(STEADY)
    found = decide(ask(), [contend(name, 0.9, 1.0, "failed in 1 of 4 trials") for name in STEADY], answers)
    assert tell(found) == (None, False) and found.further is None and found.lead is None and found.best == "best"
    nothing = decide(ask(), [contend("a", 0.0, 1.0, "skipped")], {})
    assert tell(nothing) == (None, False) and nothing.compared == () and nothing.draws == 0
    beyond = decide(ask(), contend_all(STEADY), answers, beyond_budget=list(STEADY))
    assert tell(beyond) == (None, False) and beyond.limited


def test_a_method_with_one_draw_is_not_compared_and_holds_nobody_up() -> None:
    answers = answer_all({**STEADY, "late": [0.99]})
    found = decide(ask(), [contend(name, 0.9, 1.0) for name in answers], answers)
    assert found.choice is not None and found.settled
    assert {c.name for c in found.compared} == {"best", "cheap", "poor"}


def test_methods_with_unlike_numbers_of_draws_are_decided_by_the_draws_of_each() -> None:
    """The best bet has twelve draws, its rival four of them, on which it is a little ahead of its own mean."""
    rng = np.random.default_rng(0)
    high = (0.85 + 0.01 * rng.normal(size=12)).tolist()
    values: Scores = {"high": high, "low": (0.75 + 0.01 * rng.normal(size=4)).tolist()}
    found = decide(ask(), contend_all(values), answer_all(values))
    assert tell(found) == ("high", True) and found.draws == 12
    assert found.rivals["low"].counts == (4, 12) and len(found.rivals["low"].by_draw) == 4
    assert found.rivals["low"].mean == pytest.approx(np.mean(values["low"]) - np.mean(high), abs=1e-4)
    assert found.best == "high", "one that has few draws may have the easy ones"
    ahead = decide(ask(), contend_all(STEADY), answer_all({**STEADY, "cheap": [0.95, 0.95]}))
    assert ahead.best == "best" and tell(ahead)[0] == "cheap"


def test_within_nothing_a_lone_method_is_all_that_can_be_settled() -> None:
    same = answer_all({"a": [0.8] * 3, "b": [0.8] * 3}, rows=100)
    found = decide(ask(0.0), contend_all({"a": [0.8], "b": [0.8]}), same)
    assert tell(found) == ("a", False) and found.further == Further({})
    assert found.row_weight == pytest.approx(1 / 300)
    assert tell(decide(ask_bound(0.0), contend_all({"a": [0.8], "b": [0.8]}), same)) == ("a", False)
    alone = decide(ask(0.0), contend_all({"a": [0.8]}), {"a": same["a"]})
    assert tell(alone) == ("a", True)


def test_a_tolerance_beneath_one_rows_weight_is_not_met_by_draws_that_bring_no_rows() -> None:
    """A test row of the hundred that all draws share weighs a point."""
    contenders = contend_all({"a": [0.8], "b": [0.8]})
    same = answer_all({"a": [0.8] * 3, "b": [0.8] * 3}, rows=100, shared=True)
    found = decide(ask(0.005), contenders, same)
    assert not found.settled and found.row_weight == pytest.approx(0.01)
    assert found.further is not None and found.further.draws == {} and found.further.rows is not None
    own = decide(ask(0.005), contenders, answer_all({"a": [0.8] * 3, "b": [0.8] * 3}, rows=100))
    assert not own.settled and own.further is not None and own.further.draws, "draws with rows of their own do"


def test_where_the_choice_saw_unlabelled_rows_the_best_of_the_others_is_told() -> None:
    contenders = contend_all(STEADY, SECONDS)
    pooled = [replace(contenders[0], unlabelled=True), *contenders[1:]]
    found = decide(ask(), pooled, answer_all(STEADY))
    assert tell(found) == ("best", True)
    assert found.without_unlabelled is not None and found.without_unlabelled.name == "cheap"
    assert found.without_unlabelled.loss is not None and found.without_unlabelled.loss.expected > 0.009
    assert decide(ask(), contenders, answer_all(STEADY)).without_unlabelled is None, "nothing to set apart"
    failed = [pooled[0], *(replace(each, excluded="failed in 1 of 4 trials") for each in pooled[1:])]
    assert decide(ask(), failed, answer_all(STEADY)).without_unlabelled is None
    everyone = [replace(each, unlabelled=True) for each in contenders]
    assert decide(ask(), everyone, answer_all(STEADY)).without_unlabelled is None


def test_a_look_with_less_error_has_wider_bounds_and_the_same_losses() -> None:
    answers, contenders = answer_all(STEADY), contend_all(STEADY)
    whole, share = (decide(replace(ask(), level=level), contenders, answers) for level in (0.05, 0.01))
    bounds = [{c.name: c.regret.bound for c in found.compared if c.regret} for found in (whole, share)]
    assert (bounds[1]["cheap"] or 0.0) > (bounds[0]["cheap"] or 0.0) > 0
    assert [c.loss for c in whole.compared] == [c.loss for c in share.compared], "they are as good whoever looks"


def test_what_an_earlier_look_said_of_two_methods_still_holds() -> None:
    """Three draws put c below; two more, in which a and c swap places, cannot take that back."""
    values: Scores = {
        "a": [0.90, 0.91, 0.92, 0.1, 0.9],
        "b": [0.90, 0.90, 0.91, 0.9, 0.9],
        "c": [0.60, 0.60, 0.61, 0.9, 0.1],
    }
    answers, contenders = answer_all(values), contend_all(values)
    looks = [LookTaken(frozenset(range(draws)), 0.02) for draws in (3, 5)]
    alone, both = (
        {c.name: c.regret for c in decide(ask(), contenders, answers, looks=taken).compared}
        for taken in (looks[1:], looks)
    )
    assert alone["c"] is not None and alone["c"].above is None
    assert both["c"] is not None and both["c"].above is not None
    # b against a as of the first look: a - b is 0, .01, .01 there, each pair at 1 %.
    reach = stats.t.ppf(0.99, 2) * np.std([0.0, 0.01, 0.01], ddof=1) / math.sqrt(3)
    assert both["b"] is not None and both["b"].bound == pytest.approx(0.02 / 3 + reach, rel=1e-3)
    assert alone["b"] is not None and (alone["b"].bound or 0.0) > 0.4


def test_the_lead_over_the_majority_class_is_bounded_with_the_others() -> None:
    """Gold is one label here: always answering it is always right, and every method is below."""
    answers = {"a": make_answers([0.81, 0.8, 0.79], rows=2000)}
    found = decide(ask(), [contend("a", 0.8, 1.0)], answers)
    assert found.lead is not None and found.lead.point == pytest.approx(-0.2)
    assert found.lead.least == pytest.approx(-0.2 - stats.t.ppf(0.95, 2) * 0.01 / math.sqrt(3), abs=1e-4)
    one_draw = decide(ask(), [contend("a", 0.8, 1.0)], {"a": make_answers([0.8])})
    assert one_draw.lead is None, "one draw bounds nothing"


TABLES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 20), min_size=1, max_size=6),  # right of twenty rows, a draw each
        st.sampled_from([None, None, None, "failed in 1 of 9 trials"]),
        st.sampled_from([None, 1.0, 1.0, 2.0, 60.0]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def list_figures(found: Decision) -> list[float | None]:
    figures: list[float | None] = [found.row_weight, found.regret]
    for each in found.contenders:
        figures += [] if each.loss is None else [each.loss.expected, each.loss.risk]
        figures += [] if each.regret is None else [each.regret.bound, each.regret.least]
    if found.further is not None:
        figures += [found.further.loss, found.further.seconds, found.further.trials]
    return figures + ([] if found.lead is None else [found.lead.point, found.lead.least])


@settings(max_examples=60, deadline=None)
@given(
    TABLES, st.booleans(), st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.5]), st.sampled_from(["expected_loss", "bound"])
)
def test_there_always_is_an_answer(
    table: list[tuple[list[int], str | None, float | None, bool]], shared: bool, within: float, guarantee: str
) -> None:
    """Whatever came of a study's trials: a choice wherever one was scored as often as is asked, and no more said."""
    most = max(len(right) for right, *_ in table)
    answers, contenders = {}, []
    for place, (right, failed, seconds, unlabelled) in enumerate(table):
        name, shares = f"m{place}", [each / 20 for each in right]
        # As `recommend` does: two draws, or one where none has more.
        excluded = failed or (None if len(right) >= min(most, 2) else "scored on 1 of 2 draws")
        answers[name] = make_answers(shares, 20, shared)
        contenders.append(replace(contend(name, float(np.mean(shares)), seconds, excluded), unlabelled=unlabelled))
    question = ask_bound(within) if guarantee == "bound" else ask(within)
    found = decide(question, contenders, answers)
    able = [each for each in found.contenders if each.excluded is None]
    assert (found.choice is not None) == bool(able)
    assert all(figure is None or math.isfinite(figure) for figure in list_figures(found))
    good = [each for each in able if _meets(question, each)]
    assert found.settled == bool(good)
    if found.choice is not None:
        assert found.choice in (good or able) and (found.further is None) == found.settled
        assert found.choice.seconds is not None or all(each.seconds is None for each in good)
        if good:
            cheapest = min(each.seconds if each.seconds is not None else math.inf for each in good)
            assert found.choice.seconds in (cheapest, None)
        elif found.choice.loss is not None:
            assert found.choice.loss.expected == min(each.loss.expected for each in able if each.loss is not None)
    for each in found.compared:
        if each.loss is not None:
            assert 0 <= each.loss.expected <= 1 and 0 <= each.loss.risk <= 1
    others = [each for each in able if not each.unlabelled]
    told = found.choice is not None and found.choice.unlabelled and bool(others)
    assert (found.without_unlabelled is not None) == told


def _meets(question: Question, each: Contender) -> bool:
    if question.guarantee == "bound":
        return each.regret is not None and each.regret.bound is not None and each.regret.bound <= question.within
    return each.loss is not None and each.loss.expected <= question.within / 6 and each.loss.risk <= 0.05


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.none() | st.integers(0, 20), min_size=6, max_size=6), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([0.0, 0.03, 0.3]),
    st.sampled_from(["expected_loss", "bound"]),
)
def test_draws_that_are_missing_anywhere_are_borne(
    table: list[list[int | None]], shared: bool, within: float, guarantee: str
) -> None:
    values = {f"m{place}": [None if each is None else each / 20 for each in right] for place, right in enumerate(table)}
    scored = {name: each for name, each in values.items() if any(score is not None for score in each)}
    question = ask_bound(within) if guarantee == "bound" else ask(within)
    found = decide(question, contend_all(scored), answer_all(scored, 20, shared))
    assert (found.choice is not None) == bool(scored)
    assert all(figure is None or math.isfinite(figure) for figure in list_figures(found))
