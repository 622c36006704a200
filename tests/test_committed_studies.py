"""Every study under results/ can be read and holds no texts; those that ship have no fault but low scores."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl
import pytest

from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.records import PACKED_PREDICTIONS, PACKED_RECORDS, is_packed, load_records
from fewtune.report.export import write_markdown
from fewtune.report.page import render_page
from fewtune.study.reading import load_study

ROOT = Path(__file__).parent.parent
STUDIES = sorted(folder for folder in (ROOT / "results").iterdir() if is_packed(folder))
# The others are trials of settings, put together from several studies.
SHIPPED = [folder for folder in STUDIES if (ROOT / "studies" / f"{folder.name}.yaml").is_file()]


@cache
def analyse(folder: Path) -> StudyAnalysis:
    return analyse_folder(folder)


@pytest.mark.usefixtures("no_charts")  # specified, and not drawn
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_committed_study_has_a_page(folder: Path) -> None:
    study = analyse(folder)
    page = render_page(study)
    assert study.groups and all(group.board.title in page for group in study.groups)
    assert " | AUROC in domain | " in write_markdown(study)


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_study_that_ships_was_soundly_made(folder: Path) -> None:
    study = analyse(folder)
    errors = [f"{found.rule}: {found.reason}" for found in study.findings if found.severity == "error"]
    # Methods that do not learn a task are a result; every other error would be a fault of the study.
    assert [error for error in errors if not error.startswith("at the majority: ")] == []


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_its_predictions_are_row_ids_labels_and_scores_alone(folder: Path) -> None:
    table = pl.read_parquet(folder / PACKED_PREDICTIONS)
    named = [name for name in table.columns if not name.startswith("score_")]
    assert named == ["trial_id", "test_set", "row_id", "gold", "predicted"]
    assert table.height and table["row_id"].str.contains(r"\s").sum() == 0


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_it_is_packed_and_nothing_else_lies_there(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()} - {"study.yaml", "looks.json", "report.html"}
    assert names == {PACKED_RECORDS, PACKED_PREDICTIONS}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_its_study_says_what_its_records_ran_with(folder: Path) -> None:
    study = load_study(ROOT / "studies" / f"{folder.name}.yaml")
    ran = {record.trial.variant: record.trial.settings for record in load_records(folder)}
    for method in study.methods:
        if method.variant in ran:  # a floor may be younger than the records
            # A null stands for what goes with the task, the shots or other settings; older records kept it.
            ran_with = {name: value for name, value in ran[method.variant].items() if value is not None}
            given = {name: value for name, value in method.settings.items() if value is not None and name in ran_with}
            assert given == {name: ran_with[name] for name in given}, f"{method.variant} ran with others: give them"
