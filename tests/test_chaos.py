"""The campaign that disturbs studies notices what it is there to notice, and does nothing to one that is well."""

from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path

import pytest

from benchmarks.chaos.disturbances import damage_file, leave_litter
from benchmarks.chaos.poison import find_read_poison, leave_poison
from benchmarks.chaos.small_disk import SmallDisk, can_mount
from benchmarks.chaos.study import find_differences, find_other_looks, read_outcomes, write_study
from fewtune.api import run_study
from fewtune.records import load_looks, load_records, predictions_path, record_path, write_looks, write_record
from fewtune.running.executors.in_process import InProcess


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, imports_apart: None) -> Path:
    folder = tmp_path_factory.mktemp("chaos")
    run_study(write_study(folder, draws=1), folder / "out", executor=InProcess())
    return folder / "out"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "out")


def test_a_folder_that_is_well_differs_in_nothing(finished: Path, out: Path) -> None:
    assert find_differences(out, read_outcomes(finished)) == []


def test_looks_that_differ_are_told(finished: Path, out: Path) -> None:
    assert find_other_looks(out, finished) == []
    history = load_looks(out)
    assert history is not None and history.looks == (), "of one draw"
    write_looks(out, history.model_copy(update={"plan": (*history.plan, 9)}))
    assert find_other_looks(out, finished) == ["its looks differ"]


def test_what_is_lost_changed_or_left_behind_is_told(finished: Path, out: Path) -> None:
    first, second, third, *_ = load_records(out)
    for path in (record_path(out, first.trial_id), predictions_path(out, first.trial_id)):
        path.unlink()
    changed = {"in_domain": second.metrics["in_domain"] | {"log_loss": 9.0}}
    write_record(out, second.model_copy(update={"metrics": changed}))
    shutil.copy(predictions_path(out, second.trial_id), predictions_path(out, third.trial_id))
    assert leave_litter(out, random.Random(0)) == "half-written files left"
    told = find_differences(out, read_outcomes(finished))
    assert f"trial {first.trial_id} is lost" in told
    assert f"trial {second.trial_id} differs in metrics" in told
    assert f"trial {third.trial_id} answers otherwise" in told
    assert sum(each.startswith("left behind: ") for each in told) == 1
    assert len(told) == 4


def test_a_study_goes_on_from_whatever_was_damaged(finished: Path, out: Path) -> None:
    """Each file by each kind of damage is more than a test may take: some of both, by chance that is fixed."""
    rng, happened = random.Random(1), set[str]()
    study = finished.parent / "study.yaml"
    for _ in range(12):
        happened.add(str(damage_file(out, rng)))
        leave_litter(out, rng)
        if not (out / "study.yaml").is_file() or b"\nmethods:" not in (out / "study.yaml").read_bytes():
            (out / "study.yaml").unlink(missing_ok=True)  # as its message asks
        run_study(study, out, executor=InProcess())
        assert find_differences(out, read_outcomes(finished)) == []
    assert len(happened) > 4


def test_a_pickle_that_somebody_read_is_told(tmp_path: Path) -> None:
    leave_poison(tmp_path, tmp_path)
    assert find_read_poison(tmp_path) == []
    with (tmp_path / "optimizer.pt").open("rb") as file:
        pickle.load(file).close()
    assert find_read_poison(tmp_path) == ["optimizer.pt was unpickled"]


def test_a_small_disk_fills_and_has_room_again(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("Only root may mount a disk in memory: run as root, as in a container.")
    out = tmp_path / "out"
    with SmallDisk(out) as disk:
        (out / "first").write_bytes(bytes(8192))
        disk.fill(random.Random(0))
        with pytest.raises(OSError, match="No space left"):
            (out / "second").write_bytes(bytes(1 << 20))
        disk.make_room()
        (out / "second").write_bytes(bytes(1 << 20))
    assert list(out.iterdir()) == []
