"""Folders that were looked at are merged with their looks: nothing is better for it than it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fewtune.analysis.looks import spend_beyond
from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.api import run_study
from fewtune.errors import RecordError
from fewtune.inference.better import LEVEL
from fewtune.records import LookHistory, load_looks, load_records, pack_study, record_path, write_looks
from fewtune.running.merging import merge_folders
from scripted_races import LOST, MEANS, SPREAD, FailingOnce, Scripted, lose_looks, run_race, write_study


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_race(tmp_path_factory.mktemp("race"))


def read_looks(out: Path) -> LookHistory:
    looks = load_looks(out)
    assert looks is not None
    return looks


def find_claims(study: StudyAnalysis) -> tuple[Mapping[str, str], Mapping[str, float | None]]:
    """What is said of the leader against each other method, and how far each may be below the best."""
    answers = {name: each.answer for name, each in study.groups[0].verdict.comparisons.items()}
    return answers, {each.name: each.regret and each.regret.bound for each in study.decisions[0].contenders}


def merge(parts: list[Path], out: Path) -> Path:
    merge_folders(parts, out, print)
    return out


def test_a_merged_race_has_its_looks_and_says_what_it_said(raced: Path, tmp_path: Path) -> None:
    before = analyse_folder(raced)
    assert [look.draws for look in read_looks(raced).looks] == [3, 5, 8]
    assert find_claims(before)[0] == {"a": "cannot tell", "majority": "better"}
    out = merge([raced], tmp_path / "out")
    assert load_looks(out) == load_looks(raced)
    assert find_claims(analyse_folder(out)) == find_claims(before)
    merge([raced], out)
    assert load_looks(out) == load_looks(raced), "merged into once more"


def test_a_look_that_several_parts_tell_counts_once(raced: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(raced, tmp_path / "packed")
    pack_study(copy)
    early = shutil.copytree(raced, tmp_path / "early")
    whole = read_looks(raced)
    write_looks(early, LookHistory(plan=whole.plan, looks=whole.looks[:2]))
    assert read_looks(merge([early, copy, raced], tmp_path / "out")) == whole


def test_looks_stay_taken_where_trials_are_missing(raced: Path, tmp_path: Path) -> None:
    part = shutil.copytree(raced, tmp_path / "part")
    gone = next(record for record in load_records(part) if record.status == "done")
    record_path(part, gone.trial_id).unlink()
    out = merge([part], tmp_path / "out")
    assert load_looks(out) == load_looks(raced)
    merge([raced], out)
    assert load_looks(out) == load_looks(raced) and len(load_records(out)) == len(load_records(raced))


def test_a_whole_that_no_part_looked_at_is_looked_at_with_what_they_left(raced: Path, tmp_path: Path) -> None:
    """The method that stopped in one folder went on in the other: the whole is of other trials than its race."""
    other = shutil.copytree(raced, tmp_path / "other")
    stopped = [record for record in load_records(other) if record.status == "stopped"]
    fixed = {**write_study(raced.parent), "until": None, "data_seeds": {"count": 8}, "baselines": False}
    run_study(fixed, tmp_path / "fixed", executor=Scripted(MEANS, SPREAD))
    for record in stopped:
        for kind in ("trials", "predictions"):
            for path in (tmp_path / "fixed" / kind).glob(f"{record.trial_id}.*"):
                shutil.copy(path, other / kind / path.name)
    whole = read_looks(merge([other], tmp_path / "out"))
    spent = [look.level for look in whole.looks[:3]]
    assert spent == [look.level for look in read_looks(raced).looks]
    assert [look.draws for look in whole.looks] == [3, 5, 8, 8]
    assert whole.looks[3].level == pytest.approx(spend_beyond(spent, LEVEL))


def test_each_place_is_looked_at_as_far_as_its_race_went(tmp_path: Path) -> None:
    raced = run_race(tmp_path, shots=[4, 8], until={"within": 0.4, "most_draws": 8})
    assert [look.draws for look in read_looks(raced).looks] == [3, 3]
    assert load_looks(merge([raced], tmp_path / "out")) == load_looks(raced)


def test_parts_that_were_looked_at_each_for_itself_are_refused(tmp_path: Path) -> None:
    study = {**write_study(tmp_path), "until": None, "data_seeds": [0, 1, 2], "baselines": False}
    parts = [tmp_path / "first", tmp_path / "second"]
    for part, executor in zip(parts, (Scripted(MEANS), FailingOnce(MEANS)), strict=True):
        run_study(study, part, executor=executor)
    with pytest.raises(RecordError, match=r"first, .*second were looked at each for itself: .* spent 8 % of the error"):
        merge(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", LOST)
def test_a_raced_part_that_does_not_tell_its_looks_is_refused(raced: Path, tmp_path: Path, lost: str) -> None:
    part = shutil.copytree(raced, tmp_path / "part")
    lose_looks(part, lost)
    with pytest.raises(RecordError, match=r"part/looks\.json: .*how much of the error its looks spent is not known"):
        merge([part], tmp_path / "out")
    assert not (tmp_path / "out").exists()
