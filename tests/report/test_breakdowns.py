"""Tables beside the leaderboard say what was averaged, and an oracle is called one wherever it is shown."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fewtune.analysis.study import analyse_folder
from fewtune.records import (
    Checkpoint,
    Notes,
    PenaltyNotes,
    Record,
    ReferenceNotes,
    TriedPenalty,
    TriedSetting,
    TuningNotes,
    write_record,
)
from fewtune.report.page import write_report_page
from fewtune.report.tables import show_leaderboard
from fewtune.report.tuning import list_choices, list_penalties
from study_maker import make_study


def show(out: Path) -> str:
    stream = StringIO()
    show_leaderboard(Console(file=stream, width=120, color_system=None), analyse_folder(out))
    return stream.getvalue()


def write_changed(out: Path, records: list[Record], **changes: object) -> list[Record]:
    changed = [record.model_copy(update=changes) for record in records]
    for record in changed:
        write_record(out, record)
    return changed


def score(in_domain: float, outside: float) -> dict[str, dict[str, float]]:
    return {"in_domain": {"accuracy": in_domain}, "hans": {"accuracy": outside}}


def test_an_oracle_takes_the_epoch_best_out_of_domain_and_is_named_so(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.8, 0.8]}, out_of_domain={"hans": -0.2})
    epochs = [(0.7, 0.71), (0.9, 0.65), (0.8, 0.6)]
    checkpoints = [Checkpoint(epoch=i + 1, metrics=score(*values)) for i, values in enumerate(epochs)]
    write_changed(tmp_path, records, checkpoints=checkpoints)
    text = " ".join(show(tmp_path).split())
    assert "ORACLE takes the epoch that is best on out-of-domain test rows: for analysis only, it is no result" in text
    assert "in domain as reported last epoch ORACLE pattern 0.800 0.800 0.700" in text
    assert "hans as reported last epoch ORACLE pattern 0.600 0.600 0.710" in text
    page = write_report_page(analyse_folder(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert "for analysis only, it is no result" in page and ">ORACLE<" in page


def test_no_checkpoints_no_oracle(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8]}, out_of_domain={"hans": -0.2})
    assert "ORACLE" not in show(tmp_path) + write_report_page(analyse_folder(tmp_path), tmp_path).read_text(
        encoding="utf-8"
    )


def test_a_teacher_stands_beside_its_student(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"distilled": [0.8, 0.8]}, out_of_domain={"hans": -0.2})
    references = {
        "teacher": ReferenceNotes(metrics=score(0.85, 0.7), agreement={"in_domain": 0.91, "hans": 0.83}),
        "untaught_student": ReferenceNotes(metrics=score(0.75, 0.5)),
    }
    write_changed(tmp_path, records, notes=Notes(references=references))
    text = " ".join(show(tmp_path).split())
    assert "in domain teacher untaught student itself answers as teacher distilled 0.850 0.750 0.800 0.910" in text
    assert "hans teacher untaught student itself answers as teacher distilled 0.700 0.500 0.600 0.830" in text
    assert "rows of a test set at most" not in text, "older records' teachers answered all rows"


def test_a_student_stands_beside_its_teacher_on_the_rows_that_the_teacher_was_asked(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"distilled": [0.8, 0.8]}, out_of_domain={"hans": -0.2})
    some = {"rows": {"in_domain": 128, "hans": 64}, "itself": score(0.82, 0.65)}
    write_changed(
        tmp_path,
        records,
        notes=Notes(references={"teacher": ReferenceNotes.model_validate({"metrics": score(0.85, 0.7), **some})}),
    )
    text = " ".join(show(tmp_path).split())
    assert "share of equal answers, on 128 rows of a test set at most" in text
    assert "in domain teacher itself distilled 0.850 0.820" in text
    assert "hans teacher itself distilled 0.700 0.650" in text


@pytest.mark.parametrize("failed", [False, True])
def test_tuning_says_what_was_chosen_how_often_and_at_what_cost(tmp_path: Path, failed: bool) -> None:
    records = make_study(tmp_path, {"pattern": [0.8, 0.8, 0.8]})
    for record, rate in zip(records, (2e-5, 2e-5, 5e-5), strict=True):
        first, second = {"learning_rate": 2e-5}, {"learning_rate": 5e-5}
        lost = TriedSetting(settings=first, failure="the loss became nan") if failed else TriedSetting(settings=first)
        tuning = TuningNotes(
            chosen={"learning_rate": rate},
            tried=[lost, TriedSetting(settings=second, score=0.8)],
            folds=4,
            metric="accuracy",
            seconds=30.0,
        )
        write_changed(tmp_path, [record], notes=Notes(tuning=tuning))
    lost = " (3 of 6 failed)" if failed else ""
    line = (
        "pattern · sentiment · tiny-model · 16 shots: learning_rate 2e-05 (2 of 3); learning_rate 5e-05 (1 of 3). "
        f"2 settings x 4 folds{lost}: 30 s of each fit."
    )
    assert line in " ".join(show(tmp_path).split())
    assert line in write_report_page(analyse_folder(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert list_choices(records) == []


def test_penalties_that_regressions_chose_are_told_with_how_often_each_was(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"tfidf": [0.8, 0.8, 0.8]})
    tried = [TriedPenalty(inverse_penalty=value, temperature=1.0, log_loss=0.5) for value in (1.0, 10.0)]
    chosen = [PenaltyNotes(inverse_penalty=value, tried=tried, folds=5, rows=16) for value in (10.0, 1.0)]
    for record, penalty in zip(records, [*chosen, PenaltyNotes(inverse_penalty=10.0)], strict=True):
        write_changed(tmp_path, [record], notes=Notes(penalty=penalty))
    line = (
        "tfidf · sentiment · 16 shots: inverse_penalty 10 (2 of 3); inverse_penalty 1 (1 of 3). It is the usual one in "
        "1 of 3, where no two rows could be held out."
    )
    assert line in " ".join(show(tmp_path).split())
    assert line in write_report_page(analyse_folder(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert list_penalties(records) == []
