"""The leaderboard's numbers, and what it leaves unknown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fewtune.analysis.leaderboard import LeaderboardGroup, rank_variants, score_majority
from fewtune.analysis.predictions import AnswerReader
from fewtune.records import Record, load_predictions, load_records, write_record
from study_maker import make_study


def rank(out: Path) -> list[LeaderboardGroup]:
    return rank_variants(load_records(out), AnswerReader(partial(load_predictions, out)))


def test_the_best_mean_comes_first_with_every_draw(tmp_path: Path) -> None:
    make_study(tmp_path, {"vanilla": [0.6, 0.7], "pattern": [0.8, 0.9]}, out_of_domain={"yelp": -0.1}, fit_seeds=2)
    [group] = rank(tmp_path)
    assert [row.variant for row in group.rows] == ["pattern", "vanilla"]
    assert group.test_sets == ("in_domain", "yelp")
    best = group.rows[0]
    assert best.in_domain == pytest.approx(0.85)
    assert [(d.data_seed, d.fit_seeds) for d in best.scores["in_domain"].draws] == [(0, 2), (1, 2)]
    assert [d.value for d in best.scores["yelp"].draws] == pytest.approx([0.7, 0.8])
    assert (best.draws, best.done) == (2, 4)


def test_majority_and_chance_stand_beside_the_scores(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8]}, labels=("a", "b", "c"), rows=100)
    [group] = rank(tmp_path)
    assert group.majority["in_domain"] == pytest.approx(0.34)
    assert group.chance["in_domain"] == pytest.approx(1 / 3)


def test_majority_is_in_the_metrics_own_terms(tmp_path: Path) -> None:
    [record] = make_study(tmp_path, {"pattern": [0.8]}, metric="mcc")
    assert score_majority(record, "in_domain") == 0.0
    f1: Record = record.model_copy(update={"primary_metric": "macro_f1"})
    assert score_majority(f1, "in_domain") == pytest.approx((2 * 0.5 / 1.5) / 2)
    assert score_majority(record, "elsewhere") is None
    # Three labels of which two occur: the third's F1 counts for nothing, as in the metric itself.
    third = {"in_domain": {"chance": 1 / 3, "majority": 0.6, "rows": 100.0, "labels": 2.0}}
    f1 = f1.model_copy(update={"baselines": third})
    assert score_majority(f1, "in_domain") == pytest.approx((2 * 0.6 / 1.6) / 2)


def test_a_half_run_draw_is_no_draw(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.7]}, fit_seeds=2)
    make_study(tmp_path, {"pattern": [None, None, 0.99]})
    [group] = rank(tmp_path)
    assert group.rows[0].in_domain == pytest.approx(0.7)
    assert (group.rows[0].draws, group.rows[0].done) == (2, 5)


def test_a_score_is_set_against_the_majority_of_its_own_draws(tmp_path: Path) -> None:
    trials = make_study(tmp_path, {"pattern": [0.8, 0.9, 0.7], "stopped": [0.6]})
    for record in trials:
        baselines = {"in_domain": {"chance": 0.5, "majority": 0.5 + 0.1 * record.trial.data_seed, "rows": 400.0}}
        write_record(
            tmp_path,
            record.model_copy(update={"baselines": baselines}),
            load_predictions(tmp_path, record.trial_id),
        )
    [group] = rank(tmp_path)
    assert group.majority["in_domain"] == pytest.approx(0.6)
    above = {row.variant: row.above_majority for row in group.rows}
    assert above == {"pattern": pytest.approx(0.2), "stopped": pytest.approx(0.1)}, "its draw's majority is .5"


def test_a_trial_collapses_by_the_metric_that_it_is_judged_by(tmp_path: Path) -> None:
    [record] = make_study(tmp_path, {"pattern": [0.6]}, metric="mcc")
    floor = {"in_domain": {"chance": 0.5, "majority": 0.67, "rows": 400.0}}
    write_record(tmp_path, record.model_copy(update={"baselines": floor}))
    [group] = rank(tmp_path)
    assert group.rows[0].in_domain == pytest.approx(0.2)
    assert group.rows[0].collapsed_share == 0


def test_collapsed_trials_are_those_at_the_majority_or_with_one_label(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.5, 0.8, 0.9, 0.4]})
    [group] = rank(tmp_path)
    assert group.rows[0].collapsed_share == pytest.approx(0.5)


def test_what_was_not_measured_is_none(tmp_path: Path) -> None:
    make_study(tmp_path, {"tfidf": [0.7], "pattern": [0.8]}, failures={"lora": "no memory"})
    [group] = rank(tmp_path)
    rows = {row.variant: row for row in group.rows}
    assert rows["tfidf"].peak_memory_bytes is None
    assert rows["tfidf"].trainable_parameters is None
    assert rows["lora"].in_domain is None
    assert rows["lora"].collapsed_share is None
    assert rows["lora"].fit_seconds is None
    assert (rows["lora"].done, rows["lora"].failed) == (0, 1)
    assert group.rows[-1].variant == "lora"


def test_prediction_time_is_told_for_one_row(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8]}, rows=100)
    [group] = rank(tmp_path)
    assert group.rows[0].predict_seconds_per_row == pytest.approx(0.032)
