"""Decisions on studies whose right answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewtune.analysis.decision import Decision
from fewtune.analysis.recommend import CostBudget, DecisionTerms, recommend, weigh_test_sets
from fewtune.analysis.study import analyse_folder
from fewtune.records import Look, LookHistory, load_records, write_record
from study_maker import make_study


def advise(out: Path, within: float = 0.03, **budget: Any) -> Decision:
    study = analyse_folder(out)
    boards = [group.board for group in study.groups]
    [found] = recommend(boards, study.records, study.reader, DecisionTerms(within, CostBudget(**budget)))
    return found


def chosen(found: Decision) -> str | None:
    return None if found.choice is None else found.choice.name


def by_bound(out: Path, within: float = 0.03, **budget: Any) -> Decision:
    study = analyse_folder(out)
    boards = [group.board for group in study.groups]
    terms = DecisionTerms(within, CostBudget(**budget), guarantee="bound")
    [found] = recommend(boards, study.records, study.reader, terms)
    return found


def excluded(found: Decision) -> dict[str, str | None]:
    return {each.name: each.excluded for each in found.contenders}


def set_cost(out: Path, variant: str, **costs: float) -> None:
    for record in load_records(out):
        if record.trial.variant == variant and record.cost is not None:
            write_record(out, record.model_copy(update={"cost": record.cost.model_copy(update=costs)}))


def test_a_clear_best_is_used_with_no_regret(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.85, 0.86, 0.84], "lora": [0.6, 0.62, 0.58]})
    found = advise(tmp_path)
    assert (chosen(found), found.best, found.regret, found.further) == ("pattern", "pattern", 0.0, None)
    assert found.settled and found.choice is not None and found.choice.loss is not None
    assert found.choice.loss.expected < 0.001


def test_a_cheaper_method_within_the_tolerance_is_used(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [1.0, 1.0, 1.0], "lora": [0.9975, 1.0, 1.0]}, rows=400)
    set_cost(tmp_path, "pattern", fit_seconds=100.0)
    set_cost(tmp_path, "lora", fit_seconds=1.0)
    found = advise(tmp_path)
    assert (chosen(found), found.best) == ("lora", "pattern")
    # The mean difference is 1/1200; over draws it has a standard error of 1/1200 too, and so it has by rows. The reach
    # of 2.92 of it is less than what 1,200 rows that show no difference leave open: -ln(.05) of it, 3.00.
    assert found.regret == pytest.approx((1 - math.log(0.05)) / 1200, rel=0.001)
    nothing = advise(tmp_path, within=0.0)
    assert not nothing.settled and nothing.row_weight == pytest.approx(1 / 1200), "no rows show a loss of nothing"
    assert not by_bound(tmp_path, within=0.0).settled, "neither is known to be no worse at all"


def test_draws_that_disagree_say_what_is_missing(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.7, 0.74], "lora": [0.66, 0.72, 0.7]})
    set_cost(tmp_path, "pattern", fit_seconds=100.0, predict_seconds=20.0)
    set_cost(tmp_path, "lora", fit_seconds=1.0, predict_seconds=4.0)
    found = advise(tmp_path)
    assert not found.settled and chosen(found) == "pattern" and found.further is not None
    draws = found.further.draws
    assert set(draws) == {"pattern", "lora"} and found.further.trials == sum(draws.values())
    assert found.further.seconds == 120.0 * draws["pattern"] + 5.0 * draws["lora"]
    assert found.further.loss is not None and found.further.loss <= 0.005
    bound = by_bound(tmp_path)
    assert not bound.settled and bound.further is not None
    assert len(set(bound.further.draws.values())) == 1, "bounds are of equally many draws"


def test_one_draw_has_a_best_bet_and_a_second_is_the_least(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9], "lora": [0.5]})
    found = advise(tmp_path)
    assert not found.settled and chosen(found) == "pattern" and found.choice is not None and found.choice.loss is None
    assert found.further is not None and (found.further.draws, found.further.trials) == ({"pattern": 1, "lora": 1}, 2)
    assert found.lead is None, "one draw does not show how far it is above the majority class"


def test_a_choice_is_told_from_the_commonest_label(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.51, 0.5, 0.49]})
    lead = advise(tmp_path).lead
    assert lead is not None and lead.point == pytest.approx(0.0, abs=1e-3) and lead.least < 0


def test_a_half_run_draw_neither_leads_nor_counts(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.7], "lora": [0.75, 0.75, 0.75]}, fit_seeds=2)
    make_study(tmp_path, {"pattern": [None, None, 0.99]})
    found = advise(tmp_path)
    assert found.best == "lora"
    assert excluded(found) == {"lora": None, "pattern": None}, "its two whole draws count"
    assert {each.name: each.draws for each in found.contenders} == {"lora": 3, "pattern": 2}
    assert excluded(by_bound(tmp_path)) == {"lora": None, "pattern": "scored on 2 of 3 draws"}
    trials = {each.name: each.trials_a_draw for each in found.contenders}
    assert trials["lora"] == 2, "one a fit seed"


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"max_fit_seconds": 10.0}, "100 seconds to fit, over 10"),
        ({"max_memory_bytes": 2**30}, "1.863 GiB of memory allocated, over 1"),
        ({"max_latency_seconds": 0.001}, "0.008 seconds a row, over 0.001"),
    ],
)
def test_what_exceeds_the_budget_is_neither_chosen_nor_compared(
    tmp_path: Path, budget: dict[str, float], told: str
) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "tfidf": [0.6, 0.6]})
    set_cost(tmp_path, "pattern", fit_seconds=100.0, peak_memory_bytes=2_000_000_000)
    set_cost(tmp_path, "tfidf", peak_memory_bytes=1000)
    found = advise(tmp_path, **budget)
    assert (chosen(found), found.best, found.regret) == ("tfidf", "tfidf", 0.0)
    assert excluded(found) == {"tfidf": None, "pattern": told}
    assert [each.name for each in found.compared] == ["tfidf"]


def test_a_limit_of_memory_is_held_against_what_the_process_held(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "tfidf": [0.6, 0.6]})
    set_cost(tmp_path, "pattern", peak_memory_bytes=2**30, resident_memory_bytes=3 * 2**30)
    set_cost(tmp_path, "tfidf", peak_memory_bytes=1000, resident_memory_bytes=2**29)
    found = advise(tmp_path, max_memory_bytes=2 * 2**30)
    assert excluded(found) == {"tfidf": None, "pattern": "3 GiB of memory held, over 2"}
    assert all(each.memory_is_held for each in found.contenders)


def test_a_budget_that_nothing_keeps_within_chooses_nothing(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9]})
    found = advise(tmp_path, max_fit_seconds=0.1)
    assert chosen(found) is None and found.further is None and not found.settled


def test_weight_out_of_domain_can_turn_the_order(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]}, out_of_domain={"yelp": -0.4})
    make_study(tmp_path, {"lora": [0.8, 0.8, 0.8]}, out_of_domain={"yelp": 0.0})
    assert chosen(advise(tmp_path)) == "pattern"
    turned = advise(tmp_path, out_of_domain_weight=0.5)
    assert chosen(turned) == "lora"
    assert turned.contenders[0].score == pytest.approx(0.8)


def test_what_a_race_stopped_in_domain_is_not_said_to_be_worse_by_other_weights(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]}, out_of_domain={"yelp": -0.4})
    make_study(tmp_path, {"lora": [0.8, 0.8]}, out_of_domain={"yelp": 0.0})
    why = "not the best, pattern is above it"
    look = Look(task="sentiment", shots=16, draws=3, methods=2, level=0.04, stopped={"lora": why})
    terms = DecisionTerms(looks=LookHistory(plan=(3,), looks=(look,)), seeds=(0, 1, 2), guarantee="bound")
    study = analyse_folder(tmp_path)
    boards = [group.board for group in study.groups]

    def tell(**budget: Any) -> str | None:
        [found] = recommend(boards, study.records, study.reader, replace(terms, budget=CostBudget(**budget)))
        return excluded(found)["lora"]

    assert tell() == why
    assert tell(out_of_domain_weight=0.5) == "scored on 2 of 3 draws"


def test_models_compete_with_one_another(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.7, 0.7], "tfidf": [0.6, 0.6, 0.6]}, model="small")
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]}, model="large")
    found = advise(tmp_path)
    assert chosen(found) == "pattern (large)"
    assert excluded(found).keys() == {"pattern (large)", "pattern (small)", "tfidf"}


def test_methods_that_lack_draws_or_failed_are_not_chosen(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8, 0.8], "vanilla": [0.95, 0.95, 0.95], "lora": [0.99, None, None]})
    make_study(tmp_path, {}, failures={"vanilla": "diverged"}, failed_seed=3)
    found = advise(tmp_path)
    assert excluded(found)["lora"] == "scored on 1 of 3 draws"
    assert excluded(found)["vanilla"] == "failed in 1 of 4 trials"
    assert not found.settled and chosen(found) == "pattern", "vanilla may not be used, and is 15 points above"
    assert found.choice is not None and found.choice.loss is not None and found.choice.loss.expected > 0.14
    assert found.best == "vanilla"


def test_a_method_with_the_easy_draws_alone_is_not_the_best(tmp_path: Path) -> None:
    make_study(tmp_path, {"lora": [0.95, 0.94, 0.82, 0.81], "pattern": [0.92, 0.91]}, rows=4000)
    found = advise(tmp_path)
    assert [each.name for each in found.compared] == ["pattern", "lora"], "by their means"
    assert found.best == "lora"


def test_methods_that_collapse_at_times_are_named(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.91, 0.9, 0.5], "lora": [0.9, 0.9, 0.9, 0.9]})
    make_study(tmp_path, {"vanilla": [0.52, 0.5, 0.49, 0.5]})
    collapsing = {each.name: each.collapses for each in advise(tmp_path).contenders}
    assert collapsing == {"pattern": True, "lora": False, "vanilla": False}, "vanilla is at the floor and stays there"


def test_methods_that_fall_far_at_times_without_reaching_the_floor_are_named(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.91, 0.7, 0.9], "lora": [0.9, 0.82, 0.76, 0.85]})
    make_study(tmp_path, {"adaptive": [0.9, 0.9, 0.7, 0.7]})
    collapsing = {each.name: each.collapses for each in advise(tmp_path).contenders}
    assert collapsing == {"pattern": True, "lora": False, "adaptive": False}, "half of the draws are no exception"


def test_fit_seeds_that_differ_within_every_draw_are_no_fall(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9], "lora": [0.9, 0.9, 0.9]}, fit_seeds=3)
    for record in records:
        if record.trial.variant == "pattern" and record.trial.fit_seed == 0:
            lower = {"in_domain": record.metrics["in_domain"] | {"accuracy": 0.7}}
            write_record(tmp_path, record.model_copy(update={"metrics": lower}))
    assert [each.name for each in advise(tmp_path).contenders if each.collapses] == []


def test_weights_add_up_and_there_are_none_where_nothing_bears_them(tmp_path: Path) -> None:
    assert weigh_test_sets(["in_domain", "a", "b"], 0.5) == {"in_domain": 0.5, "a": 0.25, "b": 0.25}
    assert weigh_test_sets(["in_domain", "a"], 1.0) == {"a": 1.0}
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]})
    found = advise(tmp_path, out_of_domain_weight=0.5)
    assert chosen(found) is None
    assert excluded(found) == {"pattern": "no test set out of domain to weigh"}
