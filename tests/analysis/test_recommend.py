"""Recommendations on studies whose right answer is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fewtune.analysis.recommend import Budget, Recommendation, recommend, weigh_test_sets
from fewtune.analysis.study import analyse_folder
from fewtune.records import load_records, write_record
from study_maker import make_study


def advise(out: Path, **budget: float) -> Recommendation:
    study = analyse_folder(out)
    boards = [group.board for group in study.groups]
    limits = Budget(**budget)  # type: ignore[arg-type]
    [found] = recommend(boards, study.records, study.reader, limits, np.random.default_rng(0))
    return found


def set_cost(out: Path, variant: str, **costs: float) -> None:
    for record in load_records(out):
        if record.trial.variant == variant and record.cost is not None:
            write_record(out, record.model_copy(update={"cost": record.cost.model_copy(update=costs)}))


def test_a_clear_best_is_used_and_the_others_are_ruled_out(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.85, 0.86, 0.84], "lora": [0.6, 0.62, 0.58]})
    found = advise(tmp_path)
    assert (found.answer, found.chosen, found.best, found.rival) == ("use", "pattern", "pattern", None)
    assert "ruled out, credibly worse than pattern: lora" in found.reasons
    assert found.further == ()


def test_a_cheaper_method_that_ties_is_used(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [1.0, 1.0, 1.0], "lora": [0.9975, 1.0, 1.0]}, rows=400)
    set_cost(tmp_path, "pattern", fit_seconds=100.0)
    set_cost(tmp_path, "lora", fit_seconds=1.0)
    found = advise(tmp_path)
    assert (found.answer, found.chosen, found.best) == ("use", "lora", "pattern")


def test_draws_that_disagree_cannot_tell_and_say_what_would(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.7, 0.74], "lora": [0.66, 0.72, 0.7]})
    set_cost(tmp_path, "pattern", fit_seconds=100.0)
    set_cost(tmp_path, "lora", fit_seconds=1.0)
    found = advise(tmp_path)
    assert (found.answer, found.chosen, found.best, found.rival) == ("cannot tell", "lora", "pattern", "pattern")
    # Means 0.7467 and 0.6933, deviation 0.0808: the interval reaches 0.0533 + 4.303 x 0.0808 / sqrt(3).
    assert found.at_risk == pytest.approx(0.05333 + 4.3027 * 0.08083 / 3**0.5, abs=1e-3)
    assert any("of pattern and lora" in line for line in found.further)


def test_one_draw_cannot_tell(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9], "lora": [0.5]})
    found = advise(tmp_path)
    assert found.answer == "cannot tell"
    assert "a second draw at least, of every method: one draw cannot tell" in found.further


def test_nothing_above_the_commonest_label_is_not_recommended(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.5, 0.51, 0.49]})
    found = advise(tmp_path)
    assert (found.answer, found.chosen) == ("cannot tell", "pattern")
    assert any(line.startswith("more labelled rows or a larger model") for line in found.further)


def test_draws_that_would_tell_a_method_from_the_commonest_label_are_advised(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.58, 0.6, 0.47, 0.57]})
    found = advise(tmp_path)
    assert found.answer == "cannot tell"
    [asked, otherwise] = found.further
    assert re.fullmatch(r"about \d+ further draws? of pattern, to tell it from always answering the .* label", asked)
    assert otherwise.startswith("more labelled rows or a larger model")


def test_what_is_chosen_is_above_the_commonest_label_and_the_pair_that_decides_is_advised(tmp_path: Path) -> None:
    scores = {
        "pattern": [0.9, 0.72, 0.84],
        "lora": [0.74, 0.75, 0.73],
        "vanilla": [0.6, 0.75, 0.9],
        "majority": [0.5, 0.5, 0.5],
    }
    make_study(tmp_path, scores)
    for variant, seconds in zip(scores, (100.0, 50.0, 70.0, 0.0), strict=True):
        set_cost(tmp_path, variant, fit_seconds=seconds)
    found = advise(tmp_path)
    standing = {c.name for c in found.candidates if c.best_against_it is None or c.best_against_it.answer != "better"}
    assert standing == {"pattern", "lora", "vanilla", "majority"}, "the leader alone is not told from the floor"
    assert (found.answer, found.chosen, found.best) == ("cannot tell", "lora", "pattern")
    assert "cheaper, but not credibly above the commonest label: majority" in found.reasons
    assert found.above_commonest and any("that is above the commonest label" in reason for reason in found.reasons)
    assert "of pattern and lora" in found.further[0]
    assert not any("more labelled rows" in line for line in found.further)


def test_a_risk_ends_where_the_metric_does(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.55, 0.95], "lora": [0.7, 0.71]})
    set_cost(tmp_path, "pattern", fit_seconds=100.0)
    set_cost(tmp_path, "lora", fit_seconds=1.0)
    found = advise(tmp_path)
    assert (found.chosen, found.rival) == ("lora", "pattern")
    assert found.at_risk == pytest.approx(1 - 0.705)
    against = found.candidates[1].best_against_it
    assert against is not None and (against.low, against.high) == (-1.0, 1.0)


def test_a_half_run_draw_neither_leads_nor_counts(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.7], "lora": [0.75, 0.75, 0.75]}, fit_seeds=2)
    make_study(tmp_path, {"pattern": [None, None, 0.99]})
    found = advise(tmp_path)
    assert found.best == "lora"
    assert {c.name: c.excluded for c in found.candidates} == {"lora": None, "pattern": "scored on 2 of 3 draws"}
    assert "the draws that pattern lacks: run the study again" in found.further


@pytest.mark.parametrize(
    ("budget", "excluded"),
    [
        ({"max_fit_seconds": 10.0}, "100 seconds to fit, over 10"),
        ({"max_memory_bytes": 2**30}, "1.863 GiB of memory allocated, over 1"),
        ({"max_latency_seconds": 0.001}, "0.008 seconds a row, over 0.001"),
    ],
)
def test_what_exceeds_the_budget_is_not_eligible(tmp_path: Path, budget: dict[str, float], excluded: str) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "tfidf": [0.6, 0.6]})
    set_cost(tmp_path, "pattern", fit_seconds=100.0, peak_memory_bytes=2_000_000_000)
    set_cost(tmp_path, "tfidf", peak_memory_bytes=1000)
    found = advise(tmp_path, **budget)
    assert found.chosen == "tfidf"
    assert {c.name: c.excluded for c in found.candidates} == {"tfidf": None, "pattern": excluded}
    assert found.reasons[0] == "tfidf has the highest mean of those eligible (0.600)"


def test_a_limit_of_memory_is_held_against_what_the_process_held(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "tfidf": [0.6, 0.6]})
    set_cost(tmp_path, "pattern", peak_memory_bytes=2**30, resident_memory_bytes=3 * 2**30)
    set_cost(tmp_path, "tfidf", peak_memory_bytes=1000, resident_memory_bytes=2**29)
    found = advise(tmp_path, max_memory_bytes=2 * 2**30)
    assert {c.name: c.excluded for c in found.candidates} == {
        "tfidf": None,
        "pattern": "3 GiB of memory held, over 2",
    }
    assert not [reason for reason in found.reasons if "memory" in reason]


def test_where_no_record_tells_what_was_held_the_limit_goes_by_what_was_allocated_and_says_so(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9], "tfidf": [0.6, 0.6]})
    set_cost(tmp_path, "tfidf", peak_memory_bytes=1000, resident_memory_bytes=2**29)
    [reason] = [each for each in advise(tmp_path, max_memory_bytes=2 * 2**30).reasons if "memory" in each]
    assert reason == "memory was taken as allocated, for no record tells what the process held, which is more: pattern"
    assert not [each for each in advise(tmp_path).reasons if "memory" in each], "nobody asked"


def test_a_budget_that_nothing_keeps_within_says_so(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9]})
    found = advise(tmp_path, max_fit_seconds=0.1)
    assert (found.chosen, found.answer) == (None, "cannot tell")
    assert found.reasons == ("no method was scored within the budget",)


def test_weight_out_of_domain_can_turn_the_order(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]}, out_of_domain={"yelp": -0.4})
    make_study(tmp_path, {"lora": [0.8, 0.8, 0.8]}, out_of_domain={"yelp": 0.0})
    assert advise(tmp_path).best == "pattern"
    turned = advise(tmp_path, out_of_domain_weight=0.5)
    assert turned.best == "lora"
    assert turned.candidates[0].score == pytest.approx(0.8)


def test_models_compete_with_one_another(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.7, 0.7], "tfidf": [0.6, 0.6, 0.6]}, model="small")
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]}, model="large")
    found = advise(tmp_path)
    assert found.best == "pattern (large)"
    assert {c.name for c in found.candidates} == {"pattern (large)", "pattern (small)", "tfidf"}


def test_methods_that_lack_draws_are_not_eligible_and_are_asked_for(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9], "lora": [0.99, None, None]})
    found = advise(tmp_path)
    assert found.best == "pattern"
    assert "scored on 1 of 3 draws" in [c.excluded for c in found.candidates]
    assert "the draws that lora lacks: run the study again" in found.further


def test_methods_that_failed_somewhere_are_not_recommended(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8, 0.8], "lora": [0.95, 0.95, 0.95]})
    make_study(tmp_path, {}, failures={"lora": "diverged"}, failed_seed=3)
    found = advise(tmp_path)
    assert found.chosen == "pattern"
    assert "failed in 1 of 4 trials" in [c.excluded for c in found.candidates]


def test_weights_add_up_and_there_are_none_where_nothing_bears_them(tmp_path: Path) -> None:
    assert weigh_test_sets(["in_domain", "a", "b"], 0.5) == {"in_domain": 0.5, "a": 0.25, "b": 0.25}
    assert weigh_test_sets(["in_domain", "a"], 1.0) == {"a": 1.0}
    make_study(tmp_path, {"pattern": [0.9, 0.9, 0.9]})
    found = advise(tmp_path, out_of_domain_weight=0.5)
    assert (found.chosen, found.reasons) == (None, ("rows out of domain are to weigh, and there are none here",))
