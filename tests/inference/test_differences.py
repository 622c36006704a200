"""Mean differences and what is not known of them: by hand, against SciPy, and against what is simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from fewtune.inference.differences import Difference, Variance, measure_score, pair_methods, subtract
from fewtune.inference.scores import DrawScore, score_methods
from fewtune.inference.unseen import SetWeight
from fewtune.metrics.counts import FloatArray
from made_up_scores import make_answers, make_difference, make_scores

LEVELS = (0.3, 0.05, 0.025, 0.001)
IN_DOMAIN = {"in_domain": 1.0}


def subtract_scores(first: Sequence[float | None], second: Sequence[float | None]) -> Difference:
    scored = make_scores({"first": first, "second": second})
    return subtract(scored["first"], scored["second"])


def subtract_answers(
    first: Sequence[float | None], second: Sequence[float | None], rows: int, shared: bool = False
) -> Difference:
    answers = {"first": make_answers(first, rows, shared), "second": make_answers(second, rows, shared)}
    scored = score_methods(answers, "accuracy", IN_DOMAIN)
    return subtract(scored["first"], scored["second"])


def measure(values: Sequence[float], shared_support: float = 0.0) -> Difference:
    draws = make_scores({"": values})[""].values()
    return measure_score([replace(draw, shared_support=shared_support) for draw in draws])


def measure_rows(*draws: tuple[Sequence[int], FloatArray]) -> Difference:
    """Of rows and what was right of them, draw by draw."""
    scores = []
    for rows, right in draws:
        mean = float(right.mean())
        scores.append(DrawScore(mean, np.array(rows), (right - mean) / len(right)))
    return measure_score(scores)


def test_differences_have_students_t_over_draws() -> None:
    found = subtract_scores([0.83, 0.82, 0.81], [0.80, 0.80, 0.80])
    assert (found.mean, found.error) == pytest.approx((0.02, 0.01 / math.sqrt(3)))
    assert found.freedom == 2 and found.is_known and found.by_draw == pytest.approx((0.03, 0.02, 0.01))
    for level in LEVELS:
        assert found.reach(level) == pytest.approx(stats.t.isf(level, 2) * 0.01 / math.sqrt(3))


def test_a_score_is_bounded_as_its_difference_from_nothing() -> None:
    # Mean 2, standard deviation 1, standard error 1/sqrt(3), t with two degrees of freedom 4.3027.
    found = measure([1.0, 2.0, 3.0])
    assert (found.mean, found.reach(0.025)) == pytest.approx((2.0, 4.3027 / 3**0.5), abs=1e-4)
    # Two draws 0.4 apart: standard error 0.2, and Student's t with one degree of freedom is 12.7062.
    assert measure([-0.1, 0.3]).reach(0.025) == pytest.approx(12.7062 * 0.2, abs=1e-4)
    assert measure([0.1, 0.1]).reach(0.025) == 0.0, "neither draws nor rows differ"


def test_one_draw_is_bounded_by_its_rows_as_a_binomial_is() -> None:
    found = measure_rows((range(400), np.repeat([0.0, 1.0], 200)))
    assert not found.is_known and found.freedom == math.inf
    assert found.reach(0.025) == pytest.approx(1.959964 * math.sqrt(0.25 / 400))
    assert not subtract_scores([0.9], [0.1]).is_known


def test_a_spread_over_draws_is_never_below_what_rows_bring_about() -> None:
    """Differences that happen to be equal in three draws of 100 rows are no evidence that draws do not differ."""
    found = subtract_answers([0.8] * 3, [0.7] * 3, rows=100)
    by_rows = math.sqrt(0.1 * 0.9 / 300)  # ten rows of a hundred differ, in each of three draws
    assert found.error == pytest.approx(by_rows) and found.freedom == 2


def test_a_standard_error_is_never_less_than_what_one_row_adds() -> None:
    """No row tells them apart: of 300 rows the next one may."""
    found = subtract_answers([0.8] * 3, [0.8] * 3, rows=100)
    assert found.error == found.row_weight == pytest.approx(1 / 300)
    assert found.reach(0.05) == pytest.approx(-math.log(0.05) / 300), "the rule of three"
    shared = subtract_answers([0.8] * 3, [0.8] * 3, rows=100, shared=True)
    assert shared.error == pytest.approx(1 / 100) and shared.shares_rows and not found.shares_rows


def test_what_rows_that_draws_share_do_to_all_of_them_is_worked_out() -> None:
    right = np.array([1.0, 0.0])

    def vary_on(*rows: Sequence[int]) -> float:
        return measure_rows(*((codes, right) for codes in rows)).error ** 2

    # One more of a row moves a draw by a quarter, the mean of two draws by an eighth, up or down: 4 (1/8)^2 is 1/16.
    assert vary_on([0, 1], [2, 3]) == pytest.approx(1 / 16)
    # Together both rows have 2 (2/8)^2 = 2/16. A single shared row has half of what is added.
    assert vary_on([0, 1], [0, 1]) == pytest.approx(2 / 16)
    assert vary_on([0, 1], [0, 2]) == pytest.approx(1.5 / 16)
    # Where what one draw gains by a row is what the other loses, the row does less to their mean than to each.
    assert vary_on([0, 1], [1, 0]) == pytest.approx(1 / 16)


def test_rows_that_draws_share_count_once_and_are_known_by_themselves() -> None:
    found = subtract_answers([0.8] * 3, [0.7] * 3, rows=100, shared=True)
    assert found.error == pytest.approx(math.sqrt(0.1 * 0.9 / 100))
    # Two degrees of freedom for a third of the variance, and no end of them for the rest: 2 (1 / (1/3))^2.
    assert found.freedom == pytest.approx(18.0)
    assert found.reach(0.05) == pytest.approx(stats.norm.isf(0.05) * found.error), "draws show none of it"


def test_an_interval_is_that_of_draws_or_that_of_draws_and_rows_drawn_anew() -> None:
    """v by four draws, w by the rows of each: t sqrt(v / 4), or z sqrt(3/4 v / 4 + w / 4) where that is more."""
    for draws, rows in ((0.0004, 0.0001), (0.0001, 0.0004), (0.0, 0.0004)):
        pair = Variance(draws, rows)
        found = Difference(0.02, (0.02,) * 4, (4, 4), pair, Variance(0.0), pair)
        for level in LEVELS:
            by_draws = stats.t.isf(level, 3) * math.sqrt(draws / 4)
            by_rows = stats.norm.isf(level) * math.sqrt(0.75 * draws / 4 + rows / 4)
            assert found.reach(level) == pytest.approx(max(by_draws, by_rows))
        assert found.error == pytest.approx(math.sqrt(max(draws, rows) / 4))


@pytest.mark.parametrize("shift", [0.0, 0.1])
@pytest.mark.parametrize("values", [(0.1, 0.1, 0.7), (0.2, 0.35, 0.55), (0.3, 0.7, 0.1)])
def test_two_that_go_up_and_down_alike_are_told_apart_or_not_by_their_rows(
    values: tuple[float, ...], shift: float
) -> None:
    """Their draws add nothing, and rounding may leave less than nothing of them."""
    found = subtract_scores(values, [each - shift for each in values])
    assert found.mean == pytest.approx(shift) and 0 <= found.error < 1e-8 and 0 <= found.reach(0.05) < 1e-7


def test_supports_that_draws_share_widen_by_what_draws_differ_beyond_their_rows() -> None:
    found = measure([1.0, 2.0, 3.0], shared_support=0.4)
    # Variance 1 between draws, none by rows: 1 / 3 + 0.4 / 0.6 is 1.
    assert found.error == pytest.approx(1.0) and found.reach(0.025) == pytest.approx(4.3027, abs=1e-4)
    # No draw takes the second part away: of 27 like these it is 1 / 27 + 2 / 3, and t is 2.0555.
    then = found.foresee(27, 27)
    assert then.reach(0.025) == pytest.approx(2.0555 * (1 / 27 + 2 / 3) ** 0.5, abs=1e-4)


def test_what_test_rows_that_draws_share_do_is_not_taken_for_what_shows_of_their_supports() -> None:
    """The rows that draws share make none of them differ: what differs is their supports', and hidden as much."""
    ups = [np.array([1.0, 0.0, up]) for up in (0.2, 0.4, 0.6)]  # the third row alone tells the draws apart

    def measure_on(*rows: Sequence[int]) -> Difference:
        effects = [(up - up.mean()) / 3 for up in ups]
        return measure_score(
            [DrawScore(float(up.mean()), np.array(r), e, 0.5) for up, r, e in zip(ups, rows, effects, strict=True)]
        )

    shared, apart = measure_on(*[range(3)] * 3), measure_on(*(range(3 * i, 3 * i + 3) for i in range(3)))
    varies, rows = shared.pair.draws, shared.pair.rows - shared.pair.shared
    assert rows < varies < apart.pair.rows, "on rows of their own, they might differ by rows alone"
    assert apart.error**2 == pytest.approx(apart.pair.rows / 3), "and nothing is added for supports"
    common = shared.pair.shared * (1 - 1 / 3)
    assert shared.error**2 == pytest.approx(max(varies, shared.pair.rows) / 3 + varies - rows + common)


def test_shared_test_rows_hide_nothing_of_what_shared_supports_do() -> None:
    """Draws on one file's rows, tested on one other file's: rows vary each by .001, of which .0007 is common to all."""
    by_draw, draws = (0.03, -0.03, 0.03, -0.03), 4
    pair = Variance(float(np.var(by_draw, ddof=1)), 0.001, 0.0007)
    found = Difference(0.0, by_draw, (draws, draws), pair, Variance(0.0), pair, 0.0, 0.5)
    common = 0.0007 * (draws - 1) / draws
    by_draws = pair.draws / draws + (pair.draws - 0.0003)  # half of the supports' variance shows, as much does not
    assert found.error**2 == pytest.approx(by_draws + common)
    freedom = (draws - 1) * ((by_draws + common) / by_draws) ** 2
    assert found.reach(0.05) == pytest.approx(stats.t.isf(0.05, freedom) * math.sqrt(by_draws + common))


def test_a_mean_over_more_draws_than_the_others_has_its_own_variance() -> None:
    """By hand: x varies by 1.17 over four draws, y by .5 over the first two, where x - y varies by more than y."""
    first, second = [0.5, 0.0, 2.0, -0.5], [0.0, 1.0]
    found = subtract_scores(first, [*second, None, None])
    x, y, pair = np.var(first, ddof=1), np.var(second, ddof=1), np.var([0.5, -1.0], ddof=1)
    assert pair > y and found.counts == (4, 2)
    assert found.mean == pytest.approx(0.0), "means over all draws of each"
    assert found.error**2 == pytest.approx(x / 4 + y / 2 - (x + y - pair) / 4)
    assert found.freedom == 1


def test_two_that_differ_less_than_the_one_with_fewer_draws_varies_are_compared_on_those_in_common() -> None:
    """Both go from .5 to .9 with their draws; on the two in common .1 and .12 are between them."""
    found = subtract_scores([0.5, 0.9, 0.6, 0.8], [0.4, 0.78, None, None])
    assert found.mean == pytest.approx(0.11) and found.counts == (4, 2) and found.freedom == 1
    assert found.error**2 == pytest.approx(np.var([0.1, 0.12], ddof=1) / 2)
    back = subtract_scores([0.4, 0.78, None, None], [0.5, 0.9, 0.6, 0.8])
    assert (back.mean, back.error) == pytest.approx((-found.mean, found.error))


@pytest.mark.parametrize(("first", "second", "alike"), [(6, 6, 0.5), (9, 5, 0.0), (5, 9, 0.0), (5, 9, 0.9)])
def test_the_variance_is_near_that_of_simulated_means(first: int, second: int, alike: float) -> None:
    """Methods vary by 1 and 2 and are correlated by draw; the one with fewer draws has the first ones of the other."""
    rng, studies, most = np.random.default_rng(first), 1500, max(first, second)
    common, own = (rng.normal(size=(studies, 2, most)) for _ in range(2))
    values = (math.sqrt(alike) * common[:, :1] + math.sqrt(1 - alike) * own) * np.array([[1.0], [2.0]])
    means, variances = [], []
    for one, other in values:
        found = subtract_scores(one[:first].tolist(), other[:second].tolist())
        means.append(found.mean)
        variances.append(found.error**2)
    # The surer of two estimates is surer than it is by a little.
    assert 0.85 <= float(np.mean(variances) / np.var(means)) <= 1.1


def test_intervals_hold_the_truth_as_often_as_they_say_where_rows_are_shared() -> None:
    """Four draws on the same 60 rows, each right with a chance of its own that draws shift; the truth is over rows."""
    rng, studies, held = np.random.default_rng(0), 1000, 0
    for _ in range(studies):
        chances = rng.beta(1.2, 0.8, size=60)
        draws = [(range(60), (rng.random(60) < chances).astype(np.float64)) for _ in range(4)]
        found = measure_rows(*draws)
        held += abs(found.mean - 0.6) <= found.reach(0.05)
    assert 0.88 <= held / studies <= 0.95, "of 90 %"


def test_the_pairs_of_an_unsteady_method_are_wide_and_no_others() -> None:
    rng, draws = np.random.default_rng(2), 5
    errors: dict[str, list[float]] = {"steady": [], "wild": []}
    for _ in range(25):
        values = {f"m{i}": rng.normal(0.8, 0.1 if i == 0 else 0.01, draws).tolist() for i in range(8)}
        rivals = pair_methods(make_scores(values))
        errors["wild"].append(np.median([rivals[f"m{i}"]["m0"].error for i in range(1, 8)]))
        errors["steady"].append(np.median([rivals["m1"][f"m{i}"].error for i in range(2, 8)]))
    true = {"steady": 0.01 * math.sqrt(2 / draws), "wild": math.sqrt((0.1**2 + 0.01**2) / draws)}
    assert np.median(errors["steady"]) == pytest.approx(true["steady"], rel=0.25)
    assert np.median(errors["wild"]) == pytest.approx(true["wild"], rel=0.25)


def test_pairs_lend_each_other_degrees_of_freedom_from_five_rivals_on() -> None:
    rng = np.random.default_rng(3)
    values = {f"m{i}": rng.normal(0.8, 0.02, 3).tolist() for i in range(6)}
    six, five = (pair_methods(make_scores(dict(list(values.items())[:count]))) for count in (6, 5))
    assert all(2 < each.freedom <= 6 for each in six["m0"].values()), "never more than twice what they have"
    assert all(each.freedom == 2 for each in five["m0"].values())


def test_of_two_methods_each_is_the_others_mirror_image() -> None:
    scored = make_scores({"a": [0.9, 0.8, 0.9, 0.8], "b": [0.8, 0.8]})
    forth, back = subtract(scored["a"], scored["b"]), subtract(scored["b"], scored["a"])
    assert forth.negate() == back and forth.negate().negate() == forth
    assert forth.mean == -back.mean and forth.error == back.error
    rivals = pair_methods(scored)
    assert rivals["b"]["a"].mean == -rivals["a"]["b"].mean > 0, "each rival less the method"


def test_only_draws_that_both_have_are_paired() -> None:
    scored = make_scores({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8], "c": [None, None, 0.6]})
    found = pair_methods(scored)
    assert found["b"]["a"].by_draw == pytest.approx((0.1, 0.0)) and found["b"]["a"].counts == (3, 2)
    assert set(found["b"]) == {"a"} and set(found["c"]) == {"a"}, "b and c share no draw"
    assert not found["c"]["a"].is_known


@pytest.mark.parametrize("freedom", [1.0, 1.5, 2.0, 7.3, 40.0, math.inf])
def test_the_chance_of_more_and_its_integral_are_students(freedom: float) -> None:
    if math.isinf(freedom):
        found = Difference(0.013, (0.013,), (1, 1), Variance(0.0), Variance(0.0), Variance(0.0, 0.02**2))
    else:
        found = make_difference(0.013, 0.02, draws=2, lent=freedom - 1)
    assert (found.error, found.freedom) == pytest.approx((0.02, freedom))
    law = stats.norm(0.013, 0.02) if math.isinf(freedom) else stats.t(freedom, 0.013, 0.02)
    for place in (-0.5, -0.02, 0.0, 0.013, 0.03, 0.4):
        assert found.exceed(place) == pytest.approx(float(law.sf(place)), rel=1e-10)
    for low, high in ((0.0, 1.0), (-1.0, 0.013), (0.013, 0.05), (0.2, 2.0), (0.0, 1e-6)):
        inside = [point for point in (-0.05, 0.0, 0.013, 0.03, 0.1) if low < point < high]
        expected = integrate.quad(law.sf, low, high, points=inside or None, epsabs=1e-13, epsrel=1e-11, limit=200)[0]
        assert found.integrate_excess(low, high) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_integrals_add_up_and_none_is_of_nothing() -> None:
    found = make_difference(0.01, 0.02, draws=4)
    parts = [found.integrate_excess(*ends) for ends in ((0.0, 0.01), (0.01, 0.2), (0.2, 1.0))]
    assert sum(parts) == pytest.approx(found.integrate_excess(0.0, 1.0), rel=1e-12)
    assert found.integrate_excess(0.3, 0.3) == found.integrate_excess(0.3, 0.2) == 0.0


@pytest.mark.parametrize(("near", "to"), [(1 + 1e-8, 1.0), (1 + 2e-6, 1.0), (3e7, math.inf)])
def test_the_integral_has_no_jump_where_its_form_changes(near: float, to: float) -> None:
    found = make_difference(0.01, 0.02, draws=2, lent=near - 1)
    law = stats.norm(0.01, 0.02) if math.isinf(to) else stats.t(to, 0.01, 0.02)
    expected = integrate.quad(law.sf, 0.0, 1.0, points=[0.01, 0.1], epsabs=1e-13, limit=200)[0]
    assert found.integrate_excess(0.0, 1.0) == pytest.approx(expected, rel=2e-5)


def test_what_neither_draws_nor_rows_leave_open_is_certain() -> None:
    found = subtract_scores([0.8, 0.7], [0.7, 0.6])
    certain = replace(found, by_draw=(0.1, 0.1), pair=Variance(0.0), first=Variance(0.0), second=Variance(0.0))
    assert certain.error == 0.0
    assert (certain.exceed(0.05), certain.exceed(0.15)) == (1.0, 0.0)
    assert certain.integrate_excess(0.0, 1.0) == pytest.approx(0.1)
    assert certain.integrate_excess(0.05, 0.07) == pytest.approx(0.02)
    assert certain.find_level() == 0.0


def test_the_level_is_where_students_interval_touches_zero() -> None:
    # Mean 2, standard error 1 / sqrt(3): t is 3.4641, and with two degrees of freedom p = 1 - t / sqrt(2 + t^2).
    t = 2 * 3**0.5
    assert measure([1.0, 2.0, 3.0]).find_level() == pytest.approx(1 - t / (2 + t**2) ** 0.5)
    # With 4 degrees at variance 1 besides, Student's t is the same and has 6 degrees in all.
    lent = make_difference(2.0, 3**-0.5, lent=4.0)
    assert lent.find_level() == pytest.approx(2 * stats.t.sf(t, 6))
    assert lent.reach(0.025) == pytest.approx(stats.t.isf(0.025, 6) / 3**0.5)
    assert make_difference(0.0, 0.01).find_level() == 1.0, "no difference"


def test_the_level_is_that_of_a_reach_that_ends_at_zero() -> None:
    """Whichever of Student's t and the rule of three reaches further."""
    rng, by_rows = np.random.default_rng(6), 0
    for _ in range(200):
        weight = float(rng.choice([0.0, 0.002, 0.02]))
        found = replace(
            make_difference(rng.normal(0, 0.05), rng.uniform(1e-3, 0.03), int(rng.integers(2, 9)), rng.uniform(0, 8)),
            tested=(SetWeight(weight, 0.1),),
            further=int(rng.integers(0, 4)),
        )
        level = found.find_level()
        if level < 1:
            assert found.reach(level / 2) == pytest.approx(abs(found.mean), rel=1e-8)
            assert found.reach(level / 2 * 1.01) <= abs(found.mean) <= found.reach(level / 2 * 0.99)
            by_rows += found.reach(level / 2) > -stats.t.ppf(level / 2, found.freedom) * found.error * (1 + 1e-6)
        else:
            assert found.reach(0.5) >= abs(found.mean)
    assert by_rows > 10, "rows decide some"


def test_to_foresee_no_draws_changes_nothing() -> None:
    found = subtract_answers([0.8, 0.7, 0.75, 0.8], [0.7, 0.75], rows=50)
    again = found.foresee(4, 2)
    assert (again.error, again.freedom) == pytest.approx((found.error, found.freedom))
    assert again.reach(0.05) == pytest.approx(found.reach(0.05))


@pytest.mark.parametrize(("first", "second"), [(5, 3), (3, 5), (7, 7), (20, 4), (4, 20)])
def test_what_is_foreseen_of_draws_is_what_they_would_show_if_they_went_on_alike(first: int, second: int) -> None:
    now = replace(make_difference(0.02, 0.01, draws=3, lent=2.0), first=Variance(0.0004), second=Variance(0.0001))
    then = now.foresee(first, second)
    pair = now.pair.draws
    over_all = 0.0004 / first + 0.0001 / second - (0.0005 - pair) / max(first, second)
    in_common = pair / min(first, second)
    assert then.error**2 == pytest.approx(min(over_all, in_common)) and then.mean == now.mean
    assert then.freedom == min(first, second) - 1 + 2.0 and then.counts == (first, second)


def test_more_draws_leave_what_rows_that_all_share_do() -> None:
    now = subtract_answers([0.8, 0.8, 0.82], [0.7, 0.72, 0.7], rows=100, shared=True)
    then = now.foresee(1000, 1000)
    assert then.error**2 == pytest.approx(now.pair.shared, rel=0.01)
    assert now.foresee(6, 6).error < now.error and then.freedom > 100 * now.freedom


def test_draws_that_bring_rows_of_their_own_bring_more() -> None:
    """Three draws of ten rows, all right: of 30 rows none differs, and six draws have 60, or the same ten."""
    own, same = (subtract_answers([1.0] * 3, [1.0] * 3, 10, shared) for shared in (False, True))
    assert own.reach(0.001) == pytest.approx(-math.log(0.001) / 30)
    assert own.foresee(6, 6).reach(0.001) == pytest.approx(-math.log(0.001) / 60)
    assert same.reach(0.001) == same.foresee(6, 6).reach(0.001) == pytest.approx(-math.log(0.001) / 10)


def test_the_least_standard_error_falls_with_the_rows_that_draws_bring() -> None:
    """What is foreseen of ten draws without a difference is what ten such draws would have: a row of a thousand."""
    three, ten = (subtract_answers([0.8] * draws, [0.8] * draws, rows=100) for draws in (3, 10))
    then = three.foresee(10, 10)
    assert then.error == pytest.approx(ten.error) and ten.error == pytest.approx(1 / 1000)
    assert then.reach(0.05) == pytest.approx(ten.reach(0.05))
    shared = subtract_answers([0.8] * 3, [0.8] * 3, rows=100, shared=True)
    assert shared.foresee(10, 10).error == shared.error == pytest.approx(1 / 100)


@pytest.mark.parametrize("kept", [(4, 4), (3, 3), (2, 2)])
def test_two_that_have_few_draws_in_common_are_foreseen_with_fewer_too(kept: tuple[int, int]) -> None:
    """Four draws each, two of them in common: with twice as many rows, on two draws each."""
    now = subtract_answers([0.8] * 4 + [None] * 2, [None] * 2 + [0.8] * 4, rows=100)
    then = now.foresee(*kept, rows=2)
    assert 0 < then.row_weight <= 1 / 200 and math.isfinite(then.reach(0.05)) and math.isfinite(then.find_level())


@pytest.mark.parametrize(("share", "times"), [(0.5, 2), (0.5, 5), (0.8, 2)])
def test_with_more_rows_a_difference_is_that_of_draws_that_share_less(share: float, times: int) -> None:
    """Supports vary a difference by .02 squared, of which the shared part does not show among the draws."""

    def make(shared: float, draws: int) -> Difference:
        pair = Variance(0.02**2 * (1 - shared))
        return Difference(0.0, (0.0,) * draws, (draws, draws), pair, Variance(0.0), pair, 0.0, shared)

    foreseen, made = make(share, 4).foresee(10, 10, rows=times), make(share / times, 10)
    assert foreseen.reach(0.05) == pytest.approx(made.reach(0.05)) and foreseen.reach(0.05) < make(share, 10).reach(
        0.05
    )


def test_with_more_rows_what_rows_do_varies_so_many_times_less() -> None:
    """Nothing but rows makes these differ; four times as many halve what they do to a draw and to all draws."""
    rng = np.random.default_rng(9)
    draws = [(range(100), (rng.random(100) < 0.7).astype(np.float64)) for _ in range(4)]
    now = measure_rows(*draws)
    only_rows = replace(now, pair=replace(now.pair, draws=now.pair.rows - now.pair.shared))
    then = only_rows.foresee(4, 4, rows=4)
    assert then.error == pytest.approx(only_rows.error / 2)
    tested = replace(only_rows, tested=(SetWeight(0.01, 0.0),)).foresee(4, 4, rows=4)
    assert tested.row_weight == 0.0025
