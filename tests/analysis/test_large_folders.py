"""A large folder: read once, a look at a time, within memory that does not grow with everything at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewtune import records as store
from fewtune.analysis import reading
from fewtune.analysis.followed import FollowedFolder
from fewtune.analysis.leaderboard import group_records
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.reading import READ_AHEAD, read_all
from fewtune.analysis.study import analyse_folder
from fewtune.errors import RecordError
from fewtune.inference.better import sign_flip_p
from fewtune.records import load_records, record_path, study_folder
from fewtune.report import page
from fewtune.report.charts import draw_group
from fewtune.report.page import MOST_GROUPS_DRAWN, render_page
from fewtune.report.score_chart import MOST_DOTS
from study_maker import make_study


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each record and each trial's predictions were read."""
    counts: Counter[str] = Counter()
    load_record, read_predictions = store.load_record, study_folder.read_predictions

    def count_record(path: Path) -> Any:
        counts[f"record {path.stem}"] += 1
        return load_record(path)

    def count_predictions(path: Path) -> Any:
        counts[f"predictions {path.stem}"] += 1
        return read_predictions(path)

    monkeypatch.setattr(store, "load_record", count_record)
    monkeypatch.setattr(study_folder, "read_predictions", count_predictions)
    return counts


def write_groups(out: Path) -> None:
    for shots in (8, 16):
        make_study(out, {"lora": [0.8, 0.7, 0.9], "ia3": [0.6, 0.7, 0.5]}, shots=shots, rows=40)


def test_a_report_reads_each_table_once(tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_groups(tmp_path)
    monkeypatch.setattr(page, "embed_chart", lambda *_: "")
    render_page(analyse_folder(tmp_path))
    tables = {name: count for name, count in read.items() if name.startswith("predictions")}
    assert len(tables) == 12 and set(tables.values()) == {1}


def test_a_further_look_reads_and_analyses_what_is_new_alone(tmp_path: Path, read: Counter[str]) -> None:
    write_groups(tmp_path)
    followed = FollowedFolder(tmp_path)
    first = followed.analyse(followed.read())
    assert len(read) == 24 and set(read.values()) == {1}
    changed = first.groups[0].members[0].trial_id
    path = record_path(tmp_path, changed)
    os.utime(path, ns=(1, 1))
    read.clear()
    second = followed.analyse(followed.read())
    assert set(read) == {f"record {changed}", f"predictions {changed}"}
    # Verdicts are made from all groups at once; what they are made of is kept.
    assert second.groups[1].lead is first.groups[1].lead and second.groups[0].lead is not first.groups[0].lead
    assert second.groups[0].verdict == first.groups[0].verdict


def test_a_look_sees_what_came_and_what_changed(tmp_path: Path) -> None:
    make_study(tmp_path, {"lora": [0.8, 0.7], "ia3": [0.6, 0.7]}, rows=40)
    followed = FollowedFolder(tmp_path)
    assert followed.analyse(followed.read()).groups[0].verdict.leader == "lora"
    make_study(tmp_path, {"ia3": [0.95, 0.95], "pattern": [0.5]}, rows=40, rng=np.random.default_rng(1))
    study = followed.analyse(followed.read())
    assert study.groups[0].verdict == analyse_folder(tmp_path).groups[0].verdict
    assert study.groups[0].verdict.leader == "ia3" and len(study.records) == 5
    record_path(tmp_path, study.records[0].trial_id).unlink()
    assert len(followed.analyse(followed.read()).records) == 4


def test_trials_of_a_draw_share_their_rows_in_memory(tmp_path: Path) -> None:
    make_study(tmp_path, {"lora": [0.8], "ia3": [0.6]}, fit_seeds=3)
    study = analyse_folder(tmp_path)
    answers = [study.reader.answers(record)["in_domain"] for record in study.records]
    assert all(each.rows is answers[0].rows and each.gold is answers[0].gold for each in answers)
    assert {each.predicted.itemsize for each in answers} == {1}


def test_grouping_goes_through_records_once() -> None:
    class Counted(list[Any]):
        passes = 0

        def __iter__(self) -> Any:
            Counted.passes += 1
            return super().__iter__()

    record = load_records(Path(__file__).parents[2] / "results" / "alpha-one")[0]

    def make(number: int) -> Any:
        axes = record.trial.model_copy(update={"task": f"task {number}", "model": None if number % 3 else "m"})
        return record.model_copy(update={"trial": axes})

    records = Counted(make(number) for number in range(300))
    assert len(group_records(records)) == 300 and Counted.passes == 1


def test_a_test_of_a_thousand_draws_stays_small() -> None:
    differences = np.random.default_rng(0).normal(0.01, 0.1, 1000)
    tracemalloc.start()
    try:
        sign_flip_p(differences)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20  # 1.6 GB where all flips were made at once
    finally:
        tracemalloc.stop()


def test_many_draws_are_dots_of_a_hundredth(tmp_path: Path) -> None:
    values = (0.5 + np.arange(MOST_DOTS + 1) / 1000).tolist()
    make_study(tmp_path, {"lora": values, "ia3": [0.5]}, rows=100)
    [group] = analyse_folder(tmp_path).groups
    rows = draw_group(group)[0].specification["datasets"]["rows"]
    dots = {row["tip"] for row in rows if row["kind"] == "dots" and row["method"] == "lora"}
    assert len(dots) == 7 and "lora, in domain, about 0.53: 9 draws" in dots
    assert [row["tip"] for row in rows if row["kind"] == "dots" and row["method"] == "ia3"] == [
        "ia3, in domain, data seed 0: 0.500"
    ]


def test_a_page_of_very_many_groups_says_where_its_charts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "embed_chart", lambda *_: pytest.fail("drawn"))
    for number in range(MOST_GROUPS_DRAWN + 1):
        make_study(tmp_path, {"majority": [0.5]}, task=f"task {number}", rows=2)
    text = render_page(analyse_folder(tmp_path))
    assert "left out of a page of 101 groups" in text and "--figures FOLDER" in text and "<figure>" not in text


def test_equal_means_give_one_report_whatever_the_hash_seed(tmp_path: Path) -> None:
    make_study(tmp_path, {name: [0.7, 0.8] for name in ("lora", "ia3", "pattern", "vanilla", "probe")}, rows=40)
    script = f"from fewtune.cli import main; main(['report', {str(tmp_path)!r}, '--format', 'csv'])"
    told = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_reading_ahead_ends_at_the_trial_that_cannot_be_read(tmp_path: Path) -> None:
    make_study(tmp_path, {"lora": [0.8] * 50}, rows=8)
    records = load_records(tmp_path)
    asked = list[str]()

    def load(trial_id: str) -> Any:
        asked.append(trial_id)
        return store.load_predictions(tmp_path, trial_id)

    store.predictions_path(tmp_path, records[3].trial_id).write_bytes(b"not a table")
    reader = AnswerReader(load)
    with pytest.raises(RecordError, match="damaged predictions"):
        read_all(reader, records)
    assert asked == [record.trial_id for record in records][: len(asked)] and len(asked) < len(records)
    read_all(reader, records[:3])  # has them
    assert len(asked) <= READ_AHEAD + 4


def read_beside_from(tables: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process reads from so many tables on, though tests have one core each."""
    monkeypatch.setattr(reading, "MOST_ALONE", tables)
    monkeypatch.setattr(reading, "usable_cores", lambda: 2)


def test_a_process_beside_reads_as_one_alone_does(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(__file__).parents[2] / "results" / "demo"
    records = [record for record in load_records(out) if record.status == "done"]
    load = store.StudyPredictions(out)
    alone, beside = AnswerReader(load), AnswerReader(load)
    read_all(alone, records)
    whole = render_page(analyse_folder(out))
    read_beside_from(4, monkeypatch)
    read_here, here = reading.read_ahead, list[int]()
    monkeypatch.setattr(
        reading, "read_ahead", lambda reader, asked: (here.append(len(asked)), read_here(reader, asked))
    )
    read_all(beside, records)
    assert here == [int(reading.OWN_SHARE * len(records))], "the others came from the process beside"
    monkeypatch.setattr(beside, "load", None)  # nothing is left to be read
    for record in records:
        answers = alone.answers(record)
        for name, found in beside.answers(record).items():
            for one, other in zip(vars(found).values(), vars(answers[name]).values(), strict=True):
                assert one.tolist() == other.tolist()
            assert beside.ranks(record)[name][1].tolist() == alone.ranks(record)[name][1].tolist()  # type: ignore[index]
        assert beside.figures(record) == alone.figures(record) and beside.row_ids(record) == alone.row_ids(record)
    assert render_page(analyse_folder(out)) == whole


@pytest.mark.parametrize("place", [3, 16])
def test_what_a_process_beside_cannot_read_is_told_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: int
) -> None:
    make_study(tmp_path, {"lora": [0.8] * 18}, rows=8)
    records = load_records(tmp_path)
    store.predictions_path(tmp_path, records[place].trial_id).write_bytes(b"not a table")
    read_beside_from(4, monkeypatch)
    with pytest.raises(RecordError, match=f"{records[place].trial_id}.*damaged predictions"):
        read_all(AnswerReader(store.StudyPredictions(tmp_path)), records)
    assert capfd.readouterr().err == ""


def test_what_is_left_out_by_a_process_beside_is_left_out_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path, {"lora": [0.8] * 18}, rows=8)
    records = load_records(tmp_path)
    odd = [records[place].trial_id for place in (3, 16)]
    for trial_id in odd:
        table = store.load_predictions(tmp_path, trial_id)
        table.vstack(table).write_parquet(store.predictions_path(tmp_path, trial_id))
    read_beside_from(4, monkeypatch)
    reader = AnswerReader(store.StudyPredictions(tmp_path))
    read_all(reader, records)
    assert reader.unsound == dict.fromkeys(odd, "rows") and all(reader.has(record.trial_id) for record in records)
    assert [r.trial_id for r in reader.set_aside(records) if r.status == "failed"] == odd
    reader.forget(odd[0])
    assert reader.unsound.keys() == {odd[1]} and not reader.has(odd[0])


def test_what_a_process_beside_does_not_send_is_read_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(tmp_path, {"lora": [0.8] * 18}, rows=8)
    records = load_records(tmp_path)
    read_beside_from(4, monkeypatch)
    monkeypatch.setattr(reading, "_PROGRAM", "import os; os.abort()")
    reader = AnswerReader(store.StudyPredictions(tmp_path))
    read_all(reader, [*records] * 500)  # more than a pipe holds
    assert all(reader.has(record.trial_id) for record in records)
