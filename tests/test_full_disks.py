"""A disk that is full: whatever a command writes is whole or not there, and one message says where and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fewtune
from benchmarks.chaos.small_disk import SmallDisk, can_mount
from command_line import call, run_cli
from fewtune.api import run_study
from fewtune.errors import FewtuneError, RecordError, UnwrittenError
from fewtune.records import load_planned, load_records
from fewtune.running.executors.in_process import InProcess
from labelled_reviews import write_reviews

PAGE = 4096
FIT = ("--text", "review", "--label", "kind", "--method", "tfidf")
NO_SPACE = "No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of its own at the test's folder `disk`."""
    if not can_mount(tmp_path):
        pytest.skip("Only root may mount a disk in memory: run as root, as in a container.")
    with SmallDisk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Rows of so many words that a model of them takes some hundred kilobytes."""
    path = write_reviews(tmp_path / "reviews.csv")
    with path.open("a", encoding="utf-8", newline="") as stream:
        for number in range(60):
            words = " ".join(f"w{number}x{place}" for place in range(60))
            stream.write(f"{words},{'praise' if number % 2 else 'late delivery'}\r\n")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of trials that need no model."""
    folder = tmp_path_factory.mktemp("finished")
    rows = [f"{word} thing number {number},{word}" for number in range(20) for word in ("good", "bad")]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    study = {
        "name": "finished",
        "tasks": [{"own_files": {"train": str(folder / "rows.csv"), "as": "things"}}],
        "methods": ["majority", "tfidf"],
        "shots": [4],
        "data_seeds": [0, 1, 2],
        "baselines": False,
    }
    run_study(study, folder / "out", executor=InProcess())
    return folder / "out"


def list_all(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder within, hidden ones too, and what files hold."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def require_refusal(code: int, told: str, place: Path) -> str:
    """One message, with the path, the reason, and how much room there is; returns its words."""
    words = " ".join(told.split())
    assert code == 2 and "Traceback" not in told and told.count("fewtune: ") == 1, told
    assert f"{place}: " in words and NO_SPACE in words and "free there" in words and "make room" in words, words
    return words


def test_a_model_is_saved_whole_or_not_at_all_and_the_same_command_goes_on(
    file: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("fit", file, *FIT, "--folds", 0, "--save")
    before = disk.used
    assert call(*given, tmp_path / "disk" / "first") == 0
    takes = disk.used - before
    assert takes > 16 * PAGE, "else what is left before the fit would refuse all of them"
    (tmp_path / "disk" / "there").mkdir()
    whole = list_all(tmp_path / "disk")
    # At the weights, at the model's other files, and at the card, which comes last.
    for name, lacking in (("model", takes // 2), ("there", 4 * PAGE), ("model", PAGE)):
        disk.leave(takes - lacking)
        capsys.readouterr()
        told = require_refusal(
            call(*given, tmp_path / "disk" / name), capsys.readouterr().err, tmp_path / "disk" / name
        )
        assert " needed" in told, "the size of the weights is known"
        assert list_all(tmp_path / "disk") == whole
    disk.make_room()
    for name in ("model", "there"):
        assert call(*given, tmp_path / "disk" / name) == 0
        assert {path.name for path in (tmp_path / "disk" / name).iterdir()} == {
            path.name for path in (tmp_path / "disk" / "first").iterdir()
        }


def test_a_disk_without_room_for_any_model_is_told_before_the_fit(
    file: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewtune.fitting.model.make_model", lambda *given: pytest.fail("it was fitted"))
    disk.leave(0)
    code, _, told = run_cli("fit", str(file), *FIT, "--save", tmp_path / "disk" / "model", capsys=capsys)
    require_refusal(code, told, tmp_path / "disk" / "model")
    assert list_all(tmp_path / "disk") == {}


def test_where_a_models_suspects_find_no_room_the_model_is_whole_and_the_message_says_so(
    tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewtune.fitting import suspects
    from fewtune.fitting.fold_answers import WorkFolder

    path, save = tmp_path / "rows.csv", tmp_path / "disk" / "model"
    rows = [f"{word} thing number {n},{word if n != 7 else 'good'}" for n in range(30) for word in ("good", "bad")]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    remove = WorkFolder.remove

    def remove_and_fill(work: WorkFolder) -> None:
        remove(work)  # once the model is saved
        disk.leave(0)

    monkeypatch.setattr(WorkFolder, "remove", remove_and_fill)
    monkeypatch.setattr(suspects, "find_suspects", lambda *given: [0])  # whatever the rule says of these rows
    code, _, told = run_cli("fit", path, "--method", "tfidf", "--save", save, capsys=capsys)
    words = " ".join(told.split())
    assert (
        code == 2
        and f"{save}-suspects.csv: it could not be written ({NO_SPACE}). The model in {save} is whole." in words
    )
    assert fewtune.load(save).labels == ("bad", "good") and (save / "README.md").is_file()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["model"]


def test_a_curve_that_finds_no_room_is_not_said_to_go_on_by_a_command_that_would_be_refused() -> None:
    from fewtune.cli.fit import _saved

    with pytest.raises(FewtuneError) as told, _saved(Path("model")):
        try:
            raise UnwrittenError(errno.ENOSPC, NO_SPACE, "model-curve/events.jsonl", "Make room.")
        except OSError as error:
            raise RecordError("The same command goes on from there.") from error
    assert str(told.value).startswith(
        f"model-curve/events.jsonl: it could not be written ({NO_SPACE}). The model in model"
    )
    assert "goes on from there" not in str(told.value)


def test_an_export_is_whole_with_its_card_or_not_there(
    file: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("fit", file, *FIT, "--folds", 0, "--save", tmp_path / "model") == 0
    before = disk.used
    assert call("export", tmp_path / "model", tmp_path / "disk" / "first") == 0
    takes, whole, place = disk.used - before, list_all(tmp_path / "disk"), tmp_path / "disk" / "out"
    for lacking in (takes // 2, 2 * PAGE, PAGE):
        disk.leave(takes - lacking)
        code, _, told = run_cli("export", tmp_path / "model", place, capsys=capsys)
        require_refusal(code, told, place)
        assert list_all(tmp_path / "disk") == whole
    disk.make_room()
    assert call("export", tmp_path / "model", place) == 0 and (place / "README.md").is_file()


def test_answers_are_a_whole_file_or_none(
    file: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("fit", file, *FIT, "--folds", 0, "--save", tmp_path / "model") == 0
    place = tmp_path / "disk" / "answers.csv"
    disk.leave(0)
    code, _, told = run_cli("predict", tmp_path / "model", file, "--keep", "review", "--out", place, capsys=capsys)
    require_refusal(code, told, place)
    assert list_all(tmp_path / "disk") == {}


def test_figures_are_all_there_or_none_and_those_of_before_stay(
    finished: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "disk" / "figures"
    before = disk.used
    assert call("report", finished, "--figures", place) == 0
    takes = disk.used - before
    for path in place.iterdir():
        path.write_bytes(b"an earlier one")
    for path in sorted(place.iterdir())[2:]:
        path.unlink()
    earlier = list_all(tmp_path / "disk")
    disk.leave(takes // 2)
    code, _, told = run_cli("report", finished, "--figures", place, capsys=capsys)
    require_refusal(code, told, Path(told.split("fewtune: ")[1].split(": ")[0]))
    assert str(place) in told and list_all(tmp_path / "disk") == earlier
    new = tmp_path / "disk" / "new" / "figures"
    code, _, told = run_cli("report", finished, "--figures", new, capsys=capsys)
    assert code != 0 and list_all(tmp_path / "disk") == earlier, "nor is a folder that was not there"


def test_a_study_that_cannot_be_packed_or_taken_apart_for_want_of_room_stays_what_it_was(
    finished: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "disk" / "out")
    apart = list_all(out)
    for room in (0, 2 * PAGE):  # none for the predictions, and none for the records behind them
        disk.leave(room)
        code, _, told = run_cli("pack", out, capsys=capsys)
        assert code == 2 and NO_SPACE in told and str(out) in told
        assert list_all(out) == apart
    disk.make_room()
    assert call("pack", out) == 0
    packed = list_all(out)
    disk.leave(3 * PAGE)
    more = ("run", out / "study.yaml", "--set", "data_seeds={count: 4}", "--out", out)
    code, _, told = run_cli(*map(str, more), capsys=capsys)
    assert code == 2 and NO_SPACE in told and list_all(out) == packed
    assert len(load_records(out)) == 6


def test_a_merged_folder_is_whole_or_not_there(
    finished: Path, tmp_path: Path, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "disk" / "merged"
    before = disk.used
    assert call("merge", finished, "--out", tmp_path / "disk" / "first") == 0
    takes = disk.used - before
    shutil.rmtree(tmp_path / "disk" / "first")
    for lacking in (takes - PAGE, takes // 2, PAGE):
        disk.leave(takes - lacking)
        code, _, told = run_cli("merge", finished, "--out", place, capsys=capsys)
        require_refusal(code, told, place)
        assert list_all(tmp_path / "disk") == {}
    disk.make_room()
    assert call("merge", finished, "--out", place) == 0
    assert len(load_records(place)) == len(load_planned(place) or {}) == 6


@pytest.mark.parametrize("command", [("schema",), ("list", "methods")])
def test_a_full_disk_behind_the_standard_output_is_told_by_its_name(command: tuple[str, ...]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fewtune.cli", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and f"the standard output: it could not be written ({NO_SPACE})" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_where_events_find_no_room_the_run_says_what_is_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    before, write = (out / "events.jsonl").read_bytes(), os.write

    def write_all_but_events(handle: int, content: bytes) -> int:
        if os.path.samestat(os.fstat(handle), (out / "events.jsonl").stat()):
            raise OSError(errno.ENOSPC, NO_SPACE)
        return write(handle, content)

    monkeypatch.setattr(os, "write", write_all_but_events)
    code, _, told = run_cli("run", str(out / "study.yaml"), "--out", out, capsys=capsys)
    words = require_refusal(code, told, out / "events.jsonl")
    assert "give the command again: what was finished is kept" in words
    assert (out / "events.jsonl").read_bytes() == before and len(load_records(out)) == 6
