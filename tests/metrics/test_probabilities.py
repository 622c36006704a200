"""What probabilities are worth whatever the threshold: hand-known answers, and the finding that rests on them."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.metrics.probabilities import describe, merge_labels, rank_rows
from fewtune.records import load_records, write_record
from fewtune.report.tables import show_leaderboard
from study_maker import make_study


def of_second(*chances: float) -> np.ndarray:
    return np.array([[1 - chance, chance] for chance in chances])


def test_two_labels_by_hand() -> None:
    found = describe(of_second(0.9, 0.6, 0.7, 0.2), np.array([1, 1, 0, 0]))
    # Of the four pairs of a first and a second label's row, .6 against .7 alone is ranked wrongly.
    assert found["auroc"] == 0.75
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.3) + math.log(0.8)) / 4)
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.16 + 0.49 + 0.04) / 4)
    # The mean chance of the second label is .6: what is above it is said to be the second.
    assert found["recentred_accuracy"] == 0.5


def test_a_threshold_that_is_off_costs_accuracy_and_no_rank() -> None:
    chances, gold = of_second(0.45, 0.40, 0.10, 0.05), np.array([1, 1, 0, 0])
    assert (chances.argmax(1) == gold).mean() == 0.5
    found = describe(chances, gold)
    assert found["auroc"] == 1.0 and found["recentred_accuracy"] == 1.0


def test_ties_count_half_and_one_gold_label_ranks_nothing() -> None:
    assert rank_rows(of_second(0.5, 0.5), np.array([0, 1]))[0] == 0.5  # type: ignore[index]
    assert rank_rows(of_second(0.5, 0.7), np.array([1, 1])) is None
    assert "auroc" not in describe(of_second(0.5, 0.7), np.array([1, 1]))


def test_several_labels_are_scikit_learns_mean_of_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    chances, gold = rng.dirichlet([1, 1, 1], 60), rng.integers(0, 3, 60)
    found = rank_rows(chances, gold)
    assert found is not None and found[0] == pytest.approx(roc_auc_score(gold, chances, multi_class="ovr"))


def test_what_a_row_adds_is_what_repeating_it_adds() -> None:
    rng = np.random.default_rng(1)
    chances, gold = of_second(*rng.random(4000)), rng.integers(0, 2, 4000)
    found = rank_rows(chances, gold)
    assert found is not None and found[1].sum() == pytest.approx(0.0, abs=1e-9)
    again = [*range(4000), 7]
    moved = rank_rows(chances[again], gold[again])
    assert moved is not None and moved[0] - found[0] == pytest.approx(found[1][7], rel=0.01)


def test_labels_that_count_as_one_are_added_up() -> None:
    merged = merge_labels(np.log([[0.5, 0.3, 0.2]]) + 5, np.array([0, 1, 1]))
    assert merged == pytest.approx(np.array([[0.5, 0.5]]))


def write_scores(out: Path, shifts: dict[str, float], labels: tuple[str, str] = ("negative", "positive")) -> None:
    """Give each variant's rows one and the same order by their scores, with a threshold that is off by its shift."""
    for record in load_records(out):
        rng = np.random.default_rng(record.trial.data_seed)
        rows = 400
        gold = np.arange(rows) % 2
        margin = np.where(gold == 1, 1.0, -1.0) + rng.normal(0.0, 0.8, rows) + shifts[record.trial.variant]
        predicted = (margin > 0).astype(int)
        table = pl.DataFrame(
            {
                "test_set": ["in_domain"] * rows,
                "row_id": [f"{record.trial.data_seed}-{row}" for row in range(rows)],
                "gold": [labels[i] for i in gold],
                "predicted": [labels[i] for i in predicted],
                "score_negative": -np.logaddexp(0, margin),
                "score_positive": -np.logaddexp(0, -margin),
            }
        )
        metrics = {"in_domain": {"accuracy": float((gold == predicted).mean())}}
        write_record(out, record.model_copy(update={"metrics": metrics}), table)


def test_a_difference_of_thresholds_alone_is_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8] * 4, "lora": [0.7] * 4})
    write_scores(tmp_path, {"pattern": 0.0, "lora": -0.9})
    study = analyse_folder(tmp_path)
    [told] = [finding for finding in study.findings if finding.rule == "threshold"]
    assert told.severity == "note" and "in domain, pattern is " in told.reason and "and not by AUROC (" in told.reason
    figures = {name: steady.without_threshold["in_domain"] for name, steady in study.groups[0].stability.items()}
    assert figures["pattern"]["auroc"] == pytest.approx(figures["lora"]["auroc"])
    assert figures["lora"]["recentred_accuracy"] > study.groups[0].board.rows[1].in_domain + 0.05  # type: ignore[operator]


def test_a_test_sets_own_labels_are_told_from_what_was_said(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8] * 2})
    write_scores(tmp_path, {"pattern": 0.0})
    own = analyse_folder(tmp_path).groups[0].stability["pattern"].without_threshold["in_domain"]
    for record in load_records(tmp_path):
        sets = dict.fromkeys(("in_domain", "hans"), record.metrics["in_domain"])
        write_record(tmp_path, record.model_copy(update={"metrics": sets}))
    for record in load_records(tmp_path):
        table = pl.read_parquet(tmp_path / "predictions" / f"{record.trial_id}.parquet")
        words = {"negative": "no", "positive": "yes"}
        other = table.with_columns(pl.lit("hans").alias("test_set"), pl.col("gold", "predicted").replace(words))
        write_record(tmp_path, record, pl.concat([table, other]))
    found = analyse_folder(tmp_path).groups[0].stability["pattern"].without_threshold
    assert found["hans"] == found["in_domain"] == own


def test_tables_without_scores_have_no_such_figures(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8] * 2})
    assert analyse_folder(tmp_path).groups[0].stability["pattern"].without_threshold == {"in_domain": {}}


def show(study: StudyAnalysis, width: int) -> str:
    stream = StringIO()
    show_leaderboard(Console(file=stream, width=width, color_system=None), study)
    return stream.getvalue()


def test_a_wide_terminal_shows_auroc(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8] * 2})
    write_scores(tmp_path, {"pattern": 0.0})
    study = analyse_folder(tmp_path)
    auroc = study.groups[0].stability["pattern"].without_threshold["in_domain"]["auroc"]
    assert f" {auroc:.3f}" in show(study, 120) and "auroc" in show(study, 120)
    assert "auroc" not in show(study, 100) and f" {auroc:.3f}" not in show(study, 100)
