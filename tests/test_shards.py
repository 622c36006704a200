"""A study run in parts and merged is the study run whole; parts of others are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from fewtune.analysis.looks import LOOKS, UNCOUNTED_SHARE, find_levels, spend_by
from fewtune.api import run_study
from fewtune.errors import FewtuneError, RecordError, StudyError
from fewtune.inference.better import LEVEL
from fewtune.records import (
    Record,
    load_events,
    load_looks,
    load_planned,
    load_predictions,
    load_record,
    load_records,
    pack_study,
    predictions_path,
    record_path,
    write_planned,
    write_record,
)
from fewtune.running.executors.in_process import InProcess
from fewtune.running.merging import merge_folders
from fewtune.running.prepare import prepare_jobs
from fewtune.running.shard import Shard, parse_shard
from fewtune.study import read_study

PARTS = 3


def write_rows(file: Path, flipped: bool = False) -> Path:
    """Forty rows of two labels that their words tell apart; the same with the labels exchanged."""
    kinds = (("good", "bad"), ("bad", "good")) if flipped else (("good", "good"), ("bad", "bad"))
    lines = [f"{word} thing number {number},{label}" for number in range(20) for word, label in kinds]
    file.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study of four trials that need no model."""
    file = write_rows(tmp_path_factory.mktemp("rows") / "rows.csv")
    task = {"train": str(file), "text": "text", "label": "label", "as": "feelings"}
    return {
        "name": "parts",
        "tasks": [{"own_files": task}],
        "methods": ["majority", "tfidf"],
        "shots": [4],
        "data_seeds": [0, 1],
        "baselines": False,
    }


@pytest.fixture(scope="module")
def parts(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The study's folders, run in parts."""
    root = tmp_path_factory.mktemp("parts")
    for number in range(1, PARTS + 1):
        run_study(values, root / str(number), executor=InProcess(), shard=(number, PARTS))
    return [root / str(number) for number in range(1, PARTS + 1)]


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    run_study(values, out, executor=InProcess())
    return out


def merge(folders: list[Path], out: Path) -> tuple[int, list[str]]:
    told: list[str] = []
    return merge_folders(folders, out, told.append), told


def strip(record: Record) -> dict[str, Any]:
    """A record without what every run has of its own."""
    kept = record.model_dump(exclude={"cost", "phase_seconds", "started_at", "notes"})
    return json.loads(json.dumps(kept, default=str))  # type: ignore[no-any-return]


def test_every_trial_is_in_one_part_and_merged_they_are_the_study(
    parts: list[Path], whole: Path, tmp_path: Path
) -> None:
    planned = [set(load_planned(part) or ()) for part in parts]
    assert sorted(map(len, planned)) == [1, 1, 2] and len(set.union(*planned)) == 4
    assert merge(parts, tmp_path / "out") == (4, [])
    merged, expected = load_records(tmp_path / "out"), load_records(whole)
    assert list(map(strip, merged)) == list(map(strip, expected))
    for record in expected:
        ours = load_predictions(tmp_path / "out", record.trial_id)
        assert_frame_equal(ours, load_predictions(whole, record.trial_id), check_exact=True)
    assert load_planned(tmp_path / "out") == load_planned(whole)
    assert (tmp_path / "out" / "study.yaml").read_text() == (whole / "study.yaml").read_text()


def test_parts_are_no_looks_and_the_merged_study_has_been_looked_at_once(
    parts: list[Path], whole: Path, tmp_path: Path
) -> None:
    merge(parts[:2], tmp_path / "some")
    for folder in (*parts, tmp_path / "some"):  # whoever looks there does so uncounted, at a tenth of the error
        looks = load_looks(folder)
        assert looks is not None and looks.looks == () and looks.plan == (2,)
        [level] = find_levels(looks, load_records(folder), (0, 1)).values()
        assert level == pytest.approx(LEVEL * UNCOUNTED_SHARE / 2)
    merge(parts, tmp_path / "out")
    assert load_looks(tmp_path / "out") == load_looks(whole) != None  # noqa: E711 - neither is missing


def test_parts_of_many_trials_hold_every_method(values: dict[str, Any]) -> None:
    study = read_study({**values, "data_seeds": {"count": 16}})
    jobs, _ = prepare_jobs(study, None)
    for number in (1, 2):
        part = Shard(number, 2).pick(jobs)
        assert len(part) == 16 and {job.trial.method.name for job in part} == {"majority", "tfidf"}
        assert part == [job for job in jobs if job in part], "in the study's order"


def test_parts_run_into_one_folder_are_all_in_it(
    parts: list[Path], whole: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(1, PARTS + 1):
        result = run_study(values, tmp_path / "one", executor=InProcess(), shard=(number, PARTS))
        assert len(result.records) == sum(len(load_records(part)) for part in parts[:number])
    assert load_planned(tmp_path / "one") == load_planned(whole)
    assert load_looks(tmp_path / "one") == load_looks(whole), "the last part makes it whole, and that is looked at"
    assert merge([tmp_path / "one"], tmp_path / "out") == (4, [])


def test_a_merged_first_look_spends_what_a_races_first_look_does(values: dict[str, Any], tmp_path: Path) -> None:
    methods = ["majority", "tfidf", {"tfidf": {"as": "again", "inverse_penalty": 2.0}}]  # two that no look tells apart
    drawn = {**values, "methods": methods, "data_seeds": [0, 1, 2]}
    for number in (1, 2):
        run_study(drawn, tmp_path / str(number), executor=InProcess(), shard=(number, 2))
    merge_folders([tmp_path / "1", tmp_path / "2"], tmp_path / "out", print, race=20)
    first = load_looks(tmp_path / "out")
    assert first is not None and first.plan == LOOKS
    [look] = first.looks
    assert look.draws == 3 and look.level == pytest.approx(spend_by(3, 20, LEVEL))
    by_bound = {**drawn, "until": {"within": 0.001, "most_draws": 5}, "guarantee": "bound"}
    run_study(by_bound, tmp_path / "out", executor=InProcess())
    after = load_looks(tmp_path / "out")
    assert after is not None and after.plan == LOOKS
    assert [each.level for each in after.looks] == pytest.approx([look.level, spend_by(5, 20, LEVEL) - look.level])


def test_where_each_trial_came_from_is_kept(parts: list[Path], tmp_path: Path) -> None:
    merge(parts, tmp_path / "out")
    told = {event["folder"]: event["trials"] for event in load_events(tmp_path / "out") if event["event"] == "merged"}
    assert told == {str(part.resolve()): len(load_records(part)) for part in parts}


def test_a_missing_part_is_named_and_run_where_the_others_lie(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    _, [line] = merge(parts[:1], tmp_path / "first")
    assert line.startswith("missing: 2/3, 3/3.")
    trials, [line] = merge([tmp_path / "first", parts[2]], tmp_path / "out")
    assert line.startswith("missing: 2/3. `fewtune run` with the merged folder as --out runs") and trials < 4
    result = run_study(values, tmp_path / "out", executor=InProcess())
    assert len(result.records) == 4
    runs = [event for event in load_events(tmp_path / "out") if event["event"] == "run"]
    assert [(event["trials"], event["reused"]) for event in runs] == [(4, trials)]


def test_what_was_merged_into_a_folder_stays_when_more_is(parts: list[Path], tmp_path: Path) -> None:
    merge(parts[:1], tmp_path / "out")
    trials, [line] = merge(parts[1:2], tmp_path / "out")
    assert line.startswith("missing: 3/3.") and trials == sum(len(load_records(part)) for part in parts[:2])
    assert merge(parts[2:], tmp_path / "out") == (4, [])
    assert len(load_records(tmp_path / "out")) == 4 and load_looks(tmp_path / "out") is not None


def test_parts_from_machines_with_other_paths_are_merged_in_turn(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "elsewhere.csv")
    [choice] = values["tasks"]
    other = {**values, "tasks": [{"own_files": {**choice["own_files"], "train": str(rows)}}]}
    run_study(other, tmp_path / "second", executor=InProcess(), shard=(2, PARTS))
    merge([parts[0]], tmp_path / "out")
    assert merge([tmp_path / "second"], tmp_path / "out")[1][0].startswith("missing: 3/3.")
    assert merge([parts[2], tmp_path / "out"], tmp_path / "out") == (4, []), "its own study stays the folder's"


def test_parts_that_are_merged_in_turn_are_looked_at_as_those_merged_at_once(parts: list[Path], tmp_path: Path) -> None:
    """One of the first part's trials was skipped: it lies there, and will not be done."""
    first = shutil.copytree(parts[0], tmp_path / "first")
    failure = {"kind": "skipped", "message": "no"}
    skipped = load_records(first)[0].model_dump() | {"status": "skipped", "failure": failure, "metrics": {}}
    write_record(first, Record.model_validate(skipped), None)
    given = [first, *parts[1:]]
    told = [merge(given, tmp_path / "at once"), *(merge([part], tmp_path / "in turn") for part in given)]
    assert told[0] == told[-1] == (4, [])
    once, turns = (load_looks(tmp_path / name) for name in ("at once", "in turn"))
    assert once is not None and once == turns


def test_a_done_trial_whose_predictions_are_damaged_is_taken_from_a_part(parts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert merge(parts, out) == (4, [])
    broken = load_records(parts[0])[0].trial_id
    predictions_path(out, broken).write_bytes(b"not a table")
    failed = shutil.copytree(parts[0], tmp_path / "failed")
    failure = {"status": "failed", "failure": {"kind": "error", "message": "no"}, "metrics": {}}
    write_record(failed, Record.model_validate(load_records(failed)[0].model_dump() | failure), None)
    assert merge([failed], out)[0] == 3 and load_record(record_path(out, broken)).status == "done"
    assert merge(parts[:1], out)[0] == 4
    assert_frame_equal(load_predictions(out, broken), load_predictions(parts[0], broken))


def test_predictions_of_which_no_figure_can_be_made_are_left_out(parts: list[Path], tmp_path: Path) -> None:
    part = shutil.copytree(parts[0], tmp_path / "part")
    trial_id = load_records(part)[0].trial_id
    table = load_predictions(part, trial_id)
    table.vstack(table).write_parquet(predictions_path(part, trial_id))
    trials, [line] = merge([part, *parts[1:]], tmp_path / "out")
    assert trials == 3 and f"trial {trial_id} is left out" in line and "a row of a test set that stands" in line


def test_a_part_that_was_gone_on_with_is_still_of_the_study(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    """As after a scheduler's requeue: what it recalls from its trials does not change what it was asked for."""
    given = {**values, "precision": "auto"}
    for part in (1, 1, 2):
        run_study(given, tmp_path / str(part), executor=InProcess(), shard=(part, 2))
    assert merge([tmp_path / "1", tmp_path / "2"], tmp_path / "out") == (4, [])


def test_packed_parts_and_parts_that_overlap_are_merged_too(
    parts: list[Path], whole: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    run_study(values, tmp_path / "one", executor=InProcess(), shard=(1, PARTS))
    pack_study(tmp_path / "one")
    assert merge([tmp_path / "one", *parts], tmp_path / "out") == (4, [])
    assert merge([whole, parts[0]], tmp_path / "again") == (4, []), "one of them was run whole"


def test_what_is_done_is_kept_before_what_failed_and_unlike_scores_are_told(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    for name, change in (
        ("failed", {"status": "failed", "failure": {"kind": "error", "message": "none"}, "metrics": {}}),
        ("other", {"metrics": {"in_domain": {"accuracy": 0.123}}}),
    ):
        run_study(values, tmp_path / name, executor=InProcess(), shard=(1, PARTS))
        record = load_records(tmp_path / name)[0]
        changed = Record.model_validate(record.model_dump() | change)
        table = load_predictions(tmp_path / name, record.trial_id) if changed.status == "done" else None
        write_record(tmp_path / name, changed, table)
    trials, told = merge([tmp_path / "failed", *parts], tmp_path / "out")
    assert trials == 4 and told == []
    assert {record.status for record in load_records(tmp_path / "out")} == {"done"}
    _, told = merge([*parts, tmp_path / "other"], tmp_path / "unlike")
    assert len(told) == 1 and "was scored otherwise in" in told[0]


def test_parts_that_were_to_end_otherwise_are_of_one_study(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    run_study({**values, "budget": {"minutes": 30}}, tmp_path / "hasty", executor=InProcess(), shard=(1, PARTS))
    assert merge([tmp_path / "hasty", *parts[1:]], tmp_path / "out") == (4, [])


def test_a_trial_that_was_run_in_two_ways_is_refused(parts: list[Path], values: dict[str, Any], tmp_path: Path) -> None:
    """As by a part begun on a machine that takes bfloat16, and anew on one that does not."""
    run_study(values, tmp_path / "again", executor=InProcess(), shard=(1, PARTS))
    record = load_records(tmp_path / "again")[0]
    table = load_predictions(tmp_path / "again", record.trial_id)
    write_record(tmp_path / "again", record.model_copy(update={"trial_id": "0" * len(record.trial_id)}), table)
    write_planned(tmp_path / "again", {"0" * len(record.trial_id): record.trial.cell})
    with pytest.raises(RecordError, match=r"ran one trial in two ways .* takes bfloat16 and the other float32"):
        merge([*parts, tmp_path / "again"], tmp_path / "out")


def test_folders_of_another_study_or_of_other_rows_are_refused(
    parts: list[Path], values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="holds no study"):
        merge([parts[0], tmp_path], tmp_path / "out")
    run_study({**values, "shots": [6]}, tmp_path / "six", executor=InProcess(), shard=(1, 2))
    with pytest.raises(RecordError, match="are not of one study: they differ in shots"):
        merge([parts[0], tmp_path / "six"], tmp_path / "out")
    task = {**values["tasks"][0]["own_files"], "test_fraction": 0.5}
    run_study({**values, "tasks": [{"own_files": task}]}, tmp_path / "half", executor=InProcess(), shard=(2, 3))
    with pytest.raises(RecordError, match="are not of one study: they differ in tasks"):
        merge([parts[0], tmp_path / "half"], tmp_path / "out")
    file = write_rows(tmp_path / "rows.csv", flipped=True)
    task = {**values["tasks"][0]["own_files"], "train": str(file)}
    run_study({**values, "tasks": [{"own_files": task}]}, tmp_path / "flipped", executor=InProcess(), shard=(2, 3))
    with pytest.raises(RecordError, match="task 'feelings' has other rows in each"):
        merge([parts[0], tmp_path / "flipped"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/3", "1/999999999"])
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(FewtuneError, match="give which part of how many, such as 2/8"):
        parse_shard(text)


def test_parts_that_are_none_or_empty_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    for shard in ((0, 2), (3, 2), (0, 0)):
        with pytest.raises(FewtuneError, match="is no part; give which part of how many"):
            run_study(values, tmp_path / "out", executor=InProcess(), shard=shard)
    with pytest.raises(FewtuneError, match="the study has 4 trials: 5 parts are too many, 4 the most"):
        run_study(values, tmp_path / "out", executor=InProcess(), shard=(5, 5))


def test_a_shard_is_read_as_it_is_typed() -> None:
    assert parse_shard(" 2/8 ") == Shard(2, 8) and str(Shard(2, 8)) == "2/8"


def test_a_race_or_rows_by_the_machine_cannot_be_run_in_parts(values: dict[str, Any], tmp_path: Path) -> None:
    odd = {**values, "until": {"most_draws": 5}, "evaluation": {"in_domain_rows": "auto"}}
    with pytest.raises(StudyError) as caught:
        run_study(odd, tmp_path / "out", executor=InProcess(), shard=(1, 2))
    assert "a race looks at all its trials together" in str(caught.value) and "Give their number" in str(caught.value)
    assert not (tmp_path / "out").exists()
