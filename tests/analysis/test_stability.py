"""Summaries of one variant, and curves over shots."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.analysis.stability import bound_mean
from fewtune.analysis.study import analyse_folder
from fewtune.records import write_planned, write_record
from study_maker import make_study


def test_a_mean_has_its_interval_and_no_further_than_the_metric_goes(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.8, 1.0]}, rows=100)
    steady = analyse_folder(tmp_path).groups[0].stability["pattern"]
    bounds = steady.bounds["in_domain"]
    # Deviation 0.1: 4.3027 x 0.1 / sqrt(3) is 0.2484.
    assert bounds.mean == pytest.approx(0.9)
    assert (bounds.low, bounds.high) == (pytest.approx(0.9 - 0.2484, abs=1e-4), 1.0)
    assert steady.worst == pytest.approx(0.8)
    assert steady.spread.draws == pytest.approx(0.1)
    assert steady.spread.fit_seeds is None and steady.spread.patterns is None


def test_one_draw_has_no_interval() -> None:
    assert bound_mean([0.7]).low is None


def test_gaps_are_paired_by_draw(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.9, 0.7]}, out_of_domain={"yelp": -0.2}, rows=100)
    gap = analyse_folder(tmp_path).groups[0].stability["pattern"].gaps["yelp"]
    # The draws' own gaps are equal, so nothing is left to chance.
    assert (gap.mean, gap.low, gap.high) == (pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2))


def test_calibration_errors_are_averaged_where_there_are_any(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.9, 0.7], "lora": [0.5, 0.5]})
    for record, error in zip([r for r in records if r.trial.variant == "pattern"], (0.1, 0.3), strict=True):
        scores = {"in_domain": {**record.metrics["in_domain"], "ece": error}}
        write_record(tmp_path, record.model_copy(update={"metrics": scores}))
    found = analyse_folder(tmp_path).groups[0].stability
    assert found["pattern"].calibration_error == pytest.approx(0.2)
    assert found["lora"].calibration_error is None


def test_curves_join_what_was_scored_at_several_shots(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.7, 0.8], "lora": [0.6]}, shots=16)
    make_study(tmp_path, {"pattern": [0.9, 0.9]}, shots=32)
    [curve] = analyse_folder(tmp_path).curves
    assert (curve.variant, curve.test_set) == ("pattern", "in_domain")
    assert [(point.shots, point.draws, point.bounds.mean) for point in curve.points] == [
        (16, 2, pytest.approx(0.75)),
        (32, 2, pytest.approx(0.9)),
    ]


def test_an_unfinished_study_says_which_trials_are_missing(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.7, 0.8]})
    planned = {record.trial_id: record.trial.cell for record in records}
    write_planned(tmp_path, {**planned, "x": records[0].trial.cell.model_copy(update={"variant": "lora"})})
    study = analyse_folder(tmp_path)
    assert study.missing == {"lora": 1}
    assert [finding.rule for finding in study.findings] == ["missing trials"]
