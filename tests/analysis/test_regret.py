"""Regret bounds on small tables, their answers computed by hand; and that they hold as often as they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fewtune.analysis.answers import DrawAnswers, VariantAnswers
from fewtune.analysis.comparison import compare
from fewtune.analysis.decision import Contender, Decision, EarlierLook, Question, decide
from fewtune.analysis.regret import (
    PairDifference,
    PairedDraw,
    RegretBound,
    Scored,
    UpperLimits,
    bound_rivals,
    combine_looks,
    pair_methods,
    reach_above,
    score_draws,
    subtract,
)
from fewtune.analysis.statistics import LEVEL, NOTHING_BORROWED
from fewtune.errors import RecordError

Scores = Mapping[str, Sequence[float]]


def bound_scored(
    scored: Mapping[str, Scored], metric: str, level: float = LEVEL, able: Sequence[str] = ()
) -> dict[str, RegretBound]:
    """Every method's bound from its scores by draw, which are looked at once."""
    rivals = pair_methods(scored)
    return bound_rivals(rivals, combine_looks([(rivals, level)]), metric, able)


def bound_regrets(answers: Mapping[str, VariantAnswers], metric: str, level: float = LEVEL) -> dict[str, RegretBound]:
    return bound_scored(score_draws(answers, metric), metric, level)


def score(values: Scores) -> dict[str, dict[tuple[int, str], PairedDraw]]:
    """Methods' scores by draw, as if over so many rows that they add nothing."""
    return {
        name: {(draw, ""): PairedDraw(value, np.array([draw]), np.zeros(1)) for draw, value in enumerate(each)}
        for name, each in values.items()
    }


def answer(right: Sequence[float], rows: int = 1000, shared: bool = False) -> VariantAnswers:
    """Answers of one fit seed that are right in these shares, one a draw."""
    found = {}
    for draw, share in enumerate(right):
        predicted = (np.arange(rows) >= round(share * rows)).astype(np.int64)[None]
        codes = np.arange(rows) + (0 if shared else draw * rows)
        found[draw, ""] = {"in_domain": DrawAnswers(np.zeros(rows, dtype=np.int64), predicted, 2, codes)}
    return found


def test_two_methods_have_the_textbook_bound() -> None:
    """One pair: the one-sided t interval of its differences, .02 with a standard deviation of .01 over three draws."""
    found = bound_scored(score({"a": [0.83, 0.82, 0.81], "b": [0.80, 0.80, 0.80]}), "accuracy")
    reach = stats.t.ppf(0.95, 2) * 0.01 / math.sqrt(3)
    assert found["b"].bound == pytest.approx(0.02 + reach) and found["b"].rival == "a" and found["b"].draws == 3
    assert found["a"].bound == pytest.approx(max(0.0, reach - 0.02))
    assert found["a"].rival is None and reach < 0.02, "nothing may be above it"


def test_rows_that_show_no_difference_leave_one_open_that_they_cannot_tell() -> None:
    """Three draws of ten rows, all right: of 30 rows none differs, and 1.6 in 30 may, at a level of 20 %."""
    same = {name: answer([1.0, 1.0, 1.0], rows=10) for name in ("a", "b")}
    found = bound_regrets(same, "accuracy", level=0.2)
    assert found["a"].bound == pytest.approx(-math.log(0.2) / 30)
    again = {name: answer([1.0, 1.0, 1.0], rows=10, shared=True) for name in ("a", "b")}
    assert bound_regrets(again, "accuracy", level=0.2)["a"].bound == pytest.approx(-math.log(0.2) / 10), "the same ten"
    for given, rows in ((same, 60), (again, 10)):
        scored = score_draws(given, "accuracy")
        ahead = reach_above(subtract(scored["a"], scored["b"]), NOTHING_BORROWED, 0.2, draws=6)
        assert ahead == pytest.approx(-math.log(0.2) / rows), "draws that bring rows of their own bring more"
    compared = compare(same["a"], same["b"], "accuracy", np.random.default_rng(0))
    assert compared.answer == "cannot tell" and compared.high == pytest.approx(-math.log(0.025) / 30)
    many = {name: answer([1.0, 1.0, 1.0]) for name in ("a", "b")}
    assert compare(many["a"], many["b"], "accuracy", np.random.default_rng(0)).answer == "tie"


def test_of_three_methods_each_pair_has_half_the_error() -> None:
    found = bound_scored(score({"a": [0.9, 0.92], "b": [0.88, 0.86], "c": [0.5, 0.5]}), "accuracy", level=0.1)
    deviation = np.std([0.02, 0.06], ddof=1)
    assert found["b"].bound == pytest.approx(0.04 + stats.t.ppf(0.95, 1) * deviation / math.sqrt(2))
    assert found["c"].bound == pytest.approx(min(1.0, 0.41 + stats.t.ppf(0.95, 1) * 0.02 * 2**-0.5 / math.sqrt(2)))


def test_a_method_that_is_not_the_best_bounds_no_other() -> None:
    """c, far below and far more spread, has no part in how far b may be below the best: a is above it beyond doubt."""
    values = {"a": [0.9, 0.92, 0.91], "b": [0.89, 0.90, 0.91], "c": [0.2, 0.4, 0.0]}
    found = bound_scored(score(values), "accuracy")
    # b - a: -.01, -.02, 0; each pair at 2.5 %, two degrees of freedom.
    one = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert found["b"].bound == pytest.approx(0.01 + one) and found["b"].rival == "a"
    # a - c: .7, .52, .91, whose lower end at 2.5 % is above 0; c may be up to 16.6 points above neither.
    least = 0.71 - stats.t.ppf(0.975, 2) * np.std([0.7, 0.52, 0.91], ddof=1) / math.sqrt(3)
    assert found["c"].above == "a" and found["c"].least == pytest.approx(least) and least > 0
    noisy = bound_scored(score({**values, "c": [0.2, 0.8, 0.0]}), "accuracy")
    assert noisy["c"].above is None and noisy["b"].rival == "c", "one that may be the best still counts"


def test_what_an_earlier_look_said_of_two_methods_still_holds() -> None:
    """Three draws put c below; two more, in which a and c swap places, cannot take that back."""
    first = {"a": [0.90, 0.91, 0.92], "b": [0.90, 0.90, 0.91], "c": [0.60, 0.60, 0.61]}
    later = {
        name: [*values, *more]
        for (name, values), more in zip(first.items(), ([0.1, 0.9], [0.9] * 2, [0.9, 0.1]), strict=True)
    }
    rows = {name: answer(values, rows=100_000) for name, values in later.items()}
    contenders = [contend(name, float(np.mean(values)), 1.0) for name, values in later.items()]
    question = Question("made-up", 16, "accuracy", level=0.02)
    alone = {c.name: c.regret for c in decide(question, contenders, rows).compared}
    look = EarlierLook(frozenset(range(3)), 0.02)
    found = {c.name: c.regret for c in decide(question, contenders, rows, earlier=[look]).compared}
    assert alone["c"] is not None and alone["c"].above is None
    assert found["c"] is not None and found["c"].above is not None
    # b against a as of the first look: a - b is 0, .01, .01 there, each pair at 1 %.
    reach = stats.t.ppf(0.99, 2) * np.std([0.0, 0.01, 0.01], ddof=1) / math.sqrt(3)
    assert found["b"] is not None and found["b"].bound == pytest.approx(0.02 / 3 + reach, rel=1e-3)
    assert found["b"].rival == "a" and alone["b"] is not None and (alone["b"].bound or 0.0) > 0.4


def test_where_all_would_be_inferior_none_is() -> None:
    """Such bounds contradict each other: some are wrong, and which ones cannot be known."""
    found = UpperLimits({"a": {"b": -0.1, "c": 0.2}, "b": {"a": 0.2, "c": -0.1}, "c": {"a": -0.1, "b": 0.2}})
    assert found.inferior == {} and set(found.find_rivals("a")) == {"b", "c"}


def test_a_spread_over_draws_is_never_below_what_rows_bring_about() -> None:
    """Differences that happen to be equal in three draws of 100 rows are no evidence that draws do not differ."""
    found = bound_regrets({"a": answer([0.8] * 3, rows=100), "b": answer([0.7] * 3, rows=100)}, "accuracy")
    by_rows = math.sqrt(0.1 * 0.9 / 300)  # ten rows of a hundred differ, in each of three draws
    assert found["b"].bound == pytest.approx(0.1 + stats.t.ppf(0.95, 2) * by_rows, rel=1e-6)


def test_rows_that_draws_share_count_once() -> None:
    methods = {"a": answer([0.8] * 3, 100, shared=True), "b": answer([0.7] * 3, 100, shared=True)}
    found = bound_regrets(methods, "accuracy")
    own, all_draws = 0.1 * 0.9 / 300, 0.1 * 0.9 / 100
    reach = math.hypot(stats.t.ppf(0.95, 2) * math.sqrt(own), stats.norm.ppf(0.95) * math.sqrt(all_draws - own))
    assert found["b"].bound == pytest.approx(0.1 + reach, rel=1e-6)


def test_one_draw_bounds_nothing_and_a_method_alone_has_no_regret() -> None:
    assert bound_scored(score({"a": [0.9], "b": [0.1]}), "accuracy")["b"].bound is None
    assert bound_scored(score({"a": [0.9, 0.8]}), "accuracy")["a"].bound == 0.0
    with pytest.raises(RecordError, match="unknown primary metric"):
        bound_regrets({"a": answer([0.9, 0.8])}, "ece")


def test_of_several_that_are_above_one_that_may_be_chosen_is_told_first() -> None:
    scored = score({"failed": [0.9, 0.9, 0.91], "able": [0.8, 0.8, 0.81], "below": [0.3, 0.3, 0.3]})
    assert bound_scored(scored, "accuracy")["below"].above == "failed"
    found = bound_scored(scored, "accuracy", able=["able", "below"])
    assert found["below"].above == "able" and 0.48 < found["below"].least < 0.5
    assert found["able"].above == "failed", "none that is able is above it"


def test_only_draws_that_both_have_are_paired() -> None:
    scored = score({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8]})
    assert subtract(scored["a"], scored["b"]).by_draw == pytest.approx((0.1, 0.0))
    assert bound_scored(scored, "accuracy")["b"].draws == 2


@pytest.mark.parametrize("means", [(0.8,) * 6, (0.82, 0.8, 0.8, 0.8, 0.6, 0.6)], ids=["equal", "one ahead"])
def test_all_bounds_hold_at_once_as_often_as_they_say(means: tuple[float, ...]) -> None:
    rng, wrong, studies = np.random.default_rng(0), 0, 400
    spreads = np.array([0.01, 0.02, 0.03, 0.02, 0.05, 0.01])
    for _ in range(studies):
        values = {f"m{i}": rng.normal(mean, spreads[i], 4) for i, mean in enumerate(means)}
        found = bound_scored(score(values), "accuracy")
        regrets = {f"m{i}": max(means) - mean for i, mean in enumerate(means)}
        wrong += any((found[name].bound or 0.0) < regret for name, regret in regrets.items())
    assert wrong / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


def contend(name: str, mean: float, seconds: float | None, excluded: str | None = None) -> Contender:
    return Contender(name, mean, seconds, seconds, 1, excluded)


STEADY: Scores = {"best": [0.90, 0.91, 0.90, 0.91], "cheap": [0.89, 0.90, 0.89, 0.90], "poor": [0.6, 0.6, 0.61, 0.6]}


def ask(within: float = 0.03) -> Question:
    return Question("made-up", 16, "accuracy", within)


def test_the_cheapest_within_the_tolerance_is_chosen() -> None:
    rows = {name: answer(values, rows=100_000) for name, values in STEADY.items()}
    contenders = [contend("best", 0.905, 60.0), contend("cheap", 0.895, 2.0), contend("poor", 0.6, 1.0)]
    found = decide(ask(), contenders, rows)
    assert found.chosen is not None and found.chosen.name == "cheap" and found.best == "best"
    assert found.regret is not None and 0.01 < found.regret < 0.03 and found.missing is None
    assert [c.name for c in found.contenders] == ["best", "cheap", "poor"]
    strict = decide(ask(within=0.001), contenders, rows)
    assert strict.chosen is not None and strict.chosen.name == "best", "nothing is above it beyond doubt"


def test_what_is_beyond_the_budget_or_failed_is_not_chosen() -> None:
    rows = {name: answer(values, rows=100_000) for name, values in STEADY.items()}
    failed = [contend("best", 0.905, 60.0), contend("cheap", 0.895, 2.0, "failed in 1 of 4 trials")]
    assert (chosen := decide(ask(), failed, rows).chosen) is not None and chosen.name == "best"
    limited = decide(ask(), [contend("cheap", 0.895, 2.0), contend("poor", 0.6, 1.0)], rows, beyond_budget=["best"])
    assert limited.best == "cheap" and limited.chosen is not None and limited.regret == 0.0


def test_what_is_missing_is_said_in_draws_trials_and_seconds() -> None:
    noisy = {"a": [0.9, 0.8, 0.9], "b": [0.8, 0.9, 0.85], "poor": [0.1, 0.1, 0.1]}
    rows = {name: answer(values, rows=100_000) for name, values in noisy.items()}
    contenders = [contend(name, float(np.mean(values)), 10.0) for name, values in noisy.items()]
    found = decide(ask(within=0.05), contenders, rows)
    assert found.chosen is None and found.missing is not None and found.missing.draws is not None
    assert found.missing.methods == ("a", "b"), "the poor one cannot be the best any more"
    assert found.missing.trials == 2 * found.missing.draws and found.missing.seconds == 20.0 * found.missing.draws
    out_of_reach = decide(ask(within=0.0001), contenders, rows).missing
    assert out_of_reach is not None and out_of_reach.draws is None and out_of_reach.closest == "a"
    later = decide(replace(ask(within=0.05), next_level=0.005), contenders, rows).missing
    assert later is not None and later.draws is not None and later.draws > found.missing.draws, "a look with less error"
    single = {name: answer(values[:1]) for name, values in noisy.items()}
    first = decide(ask(), contenders, single).missing
    assert first is not None and first.draws == 1 and first.methods == ("a", "b", "poor")


def test_what_is_missing_counts_methods_that_hold_a_bound_and_cannot_be_chosen() -> None:
    noisy = {"a": [0.85, 0.84, 0.86, 0.83, 0.86], "c": [0.87, 0.88, 0.88, 0.85, 0.9]}
    rows = {name: answer(values, rows=100_000) for name, values in noisy.items()}
    contenders = [contend("a", 0.848, 10.0), contend("c", 0.876, 10.0, "failed in 1 of 6 trials")]
    found = decide(ask(), contenders, rows)
    assert found.chosen is None and found.contenders[1].regret is not None
    assert found.contenders[1].regret.above == "c", "beyond doubt, and near enough for all that"
    assert found.missing is not None and found.missing.closest == "a" and found.missing.methods == ("c", "a")
    # One that has two draws of eight needs six more than the others.
    late = {"a": [0.8, 0.9] * 4, "b": [0.8, 0.82]}
    contenders = [contend("a", 0.85, 10.0), contend("b", 0.81, 1.0, "2 of 8 draws")]
    found = decide(ask(within=0.15), contenders, {name: answer(each, rows=100_000) for name, each in late.items()})
    missing = found.missing
    assert found.chosen is None and missing is not None and missing.draws is not None
    # Nine draws of each: seven more of b at a second each, one of a at ten.
    assert (missing.methods, missing.draws, missing.trials, missing.seconds, missing.each) == (
        ("a", "b"),
        7,
        8,
        17.0,
        9,
    )


def test_where_draws_share_too_few_rows_it_is_said_how_many_would_do() -> None:
    """Two methods are right on 80 rows of 100 each, not on the same ones: no number of draws on those would do."""
    contenders = [contend("a", 0.8, 1.0), contend("b", 0.8, 2.0)]

    def decide_on(rows: int, draws: int) -> Decision:
        first = answer([0.8] * draws, rows, shared=True)
        second = {
            key: {name: replace(each, predicted=each.predicted[:, ::-1]) for name, each in sets.items()}
            for key, sets in first.items()
        }
        return decide(ask(), contenders, {"a": first, "b": second})

    missing = decide_on(100, 3).missing
    assert missing is not None and missing.draws is None and missing.rows is not None
    assert decide_on(120 * missing.rows.times, missing.rows.draws).chosen is not None
    assert decide_on(50 * missing.rows.times, missing.rows.draws).chosen is None
    far = decide(replace(ask(), within=1e-4), contenders, {"a": answer([0.8, 0.7, 0.9]), "b": answer([0.7, 0.9, 0.8])})
    assert far.missing is not None and far.missing.draws is None and far.missing.rows is None


@pytest.mark.parametrize(("share", "times"), [(0.5, 2), (0.5, 5), (0.8, 2)])
def test_with_more_rows_a_bound_is_that_of_draws_that_share_less(share: float, times: int) -> None:
    """Supports vary a difference by .02 squared, of which the shared part does not show among the draws."""

    def pair(shared: float, draws: int) -> PairDifference:
        shown = 0.02 * math.sqrt(1 - shared)
        by_draw = np.tile([shown, -shown], draws // 2) * math.sqrt((draws - 1) / draws)  # of that sample variance
        return PairDifference(tuple(by_draw.tolist()), 0.0, 0.0, shared)

    foreseen = reach_above(pair(share, 4), NOTHING_BORROWED, 0.05, draws=10, rows=times)
    assert foreseen == pytest.approx(reach_above(pair(share / times, 10), NOTHING_BORROWED, 0.05))


def test_shared_test_rows_hide_nothing_of_what_shared_supports_do() -> None:
    """Draws on one file's rows, tested on one other file's: rows vary each by .001, of which .0007 is common to all."""
    by_draw, share, draws = (0.03, -0.03, 0.03, -0.03), 0.5, 4
    common = 0.0007 * (draws - 1) / draws
    pair = PairDifference(by_draw, 0.001 / draws, common, share)
    seen = float(np.var(by_draw, ddof=1))
    variance = max(seen, 0.001) / draws + (seen - 0.0003)  # half of the supports' variance shows, as much does not
    expected = math.hypot(stats.t.ppf(0.95, draws - 1) * math.sqrt(variance), stats.norm.ppf(0.95) * math.sqrt(common))
    assert reach_above(pair, NOTHING_BORROWED, 0.05) == pytest.approx(expected)


def test_methods_that_answer_all_alike_may_differ_by_the_rarest_label() -> None:
    """Two methods without an error on 60 rows, two of them of a rare label: that one's F1 may be another."""
    gold = np.array([0] * 58 + [1] * 2)
    draws = {
        (draw, ""): {"in_domain": DrawAnswers(gold, gold[None], 2, np.arange(60, dtype=np.int32) + 60 * draw)}
        for draw in range(3)
    }
    bounds = bound_regrets({"a": draws, "b": draws}, "macro_f1", level=0.2)
    # One of the rare rows missed: F1 of 2 / 3, and 116 / 117 for the other; of 180 rows 1.6 may be, at 20 %.
    weight = (1 - 2 / 3 + 1 - 116 / 117) / 2 / 3
    assert bounds["a"].bound == pytest.approx(-math.log(0.2) * weight) and weight > 10 / 180


def test_a_method_with_one_draw_is_not_compared_and_holds_nobody_up() -> None:
    rows = {name: answer(values, rows=100_000) for name, values in STEADY.items()}
    rows["late"] = answer([0.99], rows=100_000)
    found = decide(ask(), [contend(name, 0.9, 1.0) for name in rows], rows)
    assert found.chosen is not None and {c.name for c in found.compared} == {"best", "cheap", "poor"}


def test_a_look_with_less_error_has_wider_bounds() -> None:
    rows = {name: answer(values, rows=100_000) for name, values in STEADY.items()}
    contenders = [contend(name, 0.9, 1.0) for name in rows]
    looks = [decide(Question("made-up", 16, "accuracy", level=level), contenders, rows) for level in (0.05, 0.01)]
    whole, share = ({c.name: c.regret.bound for c in found.compared if c.regret} for found in looks)
    assert (share["cheap"] or 0.0) > (whole["cheap"] or 0.0) > 0


def test_the_lead_over_the_commonest_label_is_bounded_with_the_others() -> None:
    """Gold is one label here: always answering it is always right, and every method is below."""
    found = decide(ask(), [contend("a", 0.8, 1.0)], {"a": answer([0.81, 0.8, 0.79], rows=100_000)})
    assert found.lead is not None and found.lead.point == pytest.approx(-0.2)
    assert found.lead.least == pytest.approx(-0.2 - stats.t.ppf(0.95, 2) * 0.01 / math.sqrt(3), abs=1e-4)
