"""A race whose looks are not told claims no more than whoever looks uncounted, and the audit says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fewtune.analysis.audit.finding import Finding
from fewtune.analysis.followed import FollowedFolder
from fewtune.analysis.looks import UNCOUNTED_SHARE
from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.errors import RecordError
from fewtune.inference.better import LEVEL
from fewtune.records import MOST_SPENT, LookHistory, load_looks, write_looks
from scripted_races import LOST, Scripted, lose_looks, race, run_race, write_study
from study_maker import make_study


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_race(tmp_path_factory.mktemp("race"))


def follow(out: Path) -> StudyAnalysis:
    followed = FollowedFolder(out)
    return followed.analyse(followed.read())


def find_uncounted(study: StudyAnalysis) -> list[Finding]:
    return [finding for finding in study.findings if finding.rule == "uncounted looks"]


def bounds_of(study: StudyAnalysis) -> dict[str, float]:
    return {each.name: each.regret.bound or 0.0 for each in study.decisions[0].contenders if each.regret is not None}


@pytest.mark.parametrize("analyse", [analyse_folder, follow])
@pytest.mark.parametrize("lost", LOST)
def test_a_race_that_does_not_tell_its_looks_claims_next_to_nothing(
    raced: Path, tmp_path: Path, lost: str, analyse: Callable[[Path], StudyAnalysis]
) -> None:
    before = analyse(raced)
    assert find_uncounted(before) == [] and before.decisions[0].question.level == pytest.approx(0.0108, abs=1e-4)
    out = shutil.copytree(raced, tmp_path / "out")
    lose_looks(out, lost)
    study = analyse(out)
    [finding] = find_uncounted(study)
    stopped = {record.trial_id for record in study.records if record.status == "stopped"}
    assert (finding.severity, finding.where) == ("error", "feelings · 4 shots") and set(
        finding.trials
    ) == stopped != set()
    assert study.decisions[0].question.level == pytest.approx(LEVEL * UNCOUNTED_SHARE / 8)
    assert study.groups[0].verdict.comparisons["a"].answer == "cannot tell"
    assert all(bound > bounds_of(before)[name] for name, bound in bounds_of(study).items())


def test_a_race_that_ended_before_a_method_stopped_is_one_by_its_study(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84], "lora": [0.9, 0.92, 0.91]})
    study = tmp_path / "study.yaml"
    study.write_text("name: x\ndata_seeds: [0, 1, 2]\n")
    assert analyse_folder(tmp_path).decisions[0].question.level == pytest.approx(LEVEL), "as folders of before looks"
    study.write_text("name: x\ndata_seeds: [0, 1, 2]\nuntil: decided\n")
    analysed = analyse_folder(tmp_path)
    [finding] = find_uncounted(analysed)
    assert finding.reason == "the study is a race, and no looks.json tells how often it was looked at"
    assert analysed.decisions[0].question.level == pytest.approx(LEVEL * UNCOUNTED_SHARE / 3)
    write_looks(tmp_path, LookHistory(plan=(3, 5)))
    assert find_uncounted(analyse_folder(tmp_path)) == [], "under way, before its first look"


def test_the_same_race_run_again_takes_its_looks_anew(raced: Path, tmp_path: Path) -> None:
    out = shutil.copytree(raced, tmp_path / "out")
    lose_looks(out, "file")
    again = Scripted({})
    run_race(raced.parent, out, again)
    assert again.ran == [] and load_looks(out) == load_looks(raced)
    assert find_uncounted(analyse_folder(out)) == []


def test_what_runs_without_a_race_where_its_looks_are_gone_is_refused(raced: Path, tmp_path: Path) -> None:
    out = shutil.copytree(raced, tmp_path / "out")
    lose_looks(out, "file")
    fixed = {
        **write_study(raced.parent),
        "until": None,
        "within": 0.0005,
        "data_seeds": {"count": 8},
        "baselines": False,
    }
    with pytest.raises(RecordError, match=r"looks\.json: gone, and a race stopped trials there"):
        race(fixed, out, Scripted({}))
    assert not (out / "looks.json").exists()


def test_looks_spend_no_more_than_the_error_of_a_bound() -> None:
    assert pytest.approx(LEVEL) == MOST_SPENT
