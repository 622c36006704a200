"""A study goes on in its own folder whatever happened to it there, and touches no one else's."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from fewtune.data.cache_folder import CHECKPOINTS
from fewtune.errors import RecordError
from fewtune.records import (
    Cell,
    append_event,
    load_planned,
    load_record,
    load_records,
    load_study_entry,
    predictions_path,
    record_path,
    write_planned,
)
from fewtune.running.output_folder import (
    FORGOTTEN_SECONDS,
    LOCK,
    STALE_SECONDS,
    Presence,
    check_whole,
    claim_folder,
    open_folder,
    remove_leftovers,
)
from fewtune.study import Study
from study_maker import make_study
from study_text import minimal, read


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = tmp_path / "given"
    folder.mkdir()
    return read(folder, minimal())


@pytest.fixture
def out(tmp_path: Path, study: Study) -> Path:
    """A folder in which that study ran: two finished trials and all that lies beside them."""
    folder = tmp_path / "out"
    make_study(folder, {"majority": [0.5, 0.6]})
    write_planned(folder, list_cells(folder))
    (folder / "study.yaml").write_text(study.to_yaml())
    append_event(folder, "run", trials=2, reused=0)
    return folder


def list_cells(folder: Path) -> dict[str, Cell]:
    return {record.trial_id: record.trial.cell for record in load_records(folder)}


@pytest.mark.parametrize(
    "lose",
    [
        ["events.jsonl"],
        ["study.yaml"],
        ["planned.json"],
        ["study.yaml", "events.jsonl", "planned.json"],
        ["study.yaml", "planned.json"],
    ],
    ids="+".join,
)
def test_finished_trials_are_reused_whatever_else_was_lost(out: Path, study: Study, lose: list[str]) -> None:
    cells, told = list_cells(out), list[str]()
    for name in lose:
        (out / name).unlink()
    with open_folder(out, study, cells, told.append) as done:
        assert set(done) == set(cells)
    assert (out / "study.yaml").is_file() and load_planned(out) == cells
    expected = (
        [f"{out} has no study.yaml: takes over 2 finished trials that lie there."] if "study.yaml" in lose else []
    )
    assert told == expected


def test_only_the_studys_own_trials_are_taken_over(out: Path, study: Study) -> None:
    (out / "study.yaml").unlink()
    [first, _] = cells = list_cells(out)
    told: list[str] = []
    with open_folder(out, study, {first: cells[first]}, told.append) as done:
        assert set(done) == {first}
    assert "takes over 1 finished trials" in told[0]
    assert "1 more there belong to no trial of this study and do not count" in told[0]


def test_a_record_under_other_names_is_kept_under_those_of_the_study(out: Path, study: Study) -> None:
    [first, second] = cells = list_cells(out)
    path, told = record_path(out, first), list[str]()
    edited = json.loads(path.read_text())
    edited["trial"]["variant"] = ""
    path.write_text(json.dumps(edited))
    with open_folder(out, study, cells, told.append) as done:
        assert set(done) == {first, second} and done[first].trial.cell == cells[first]
    assert load_record(path).trial.cell == cells[first]
    assert told == [f"{path}: other names stood there; it is kept under those of this study."]


def test_a_done_record_without_any_score_runs_again(out: Path, study: Study) -> None:
    [first, second] = cells = list_cells(out)
    path, told = record_path(out, first), list[str]()
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {}}))
    with open_folder(out, study, cells, told.append) as done:
        assert set(done) == {second}
    assert "no score stands there" in told[0] and "Its trial runs again now" in told[0]


@pytest.mark.parametrize("content", [b"", b"name: [", b"\xff\xfe\x00", b"- a list"])
def test_a_damaged_study_says_what_to_do_and_doing_it_works(out: Path, study: Study, content: bytes) -> None:
    (out / "study.yaml").write_bytes(content)
    with pytest.raises(RecordError, match=r"Delete that file and run again: the study's finished trials"):
        claim_folder(out, study)
    assert (out / "study.yaml").read_bytes() == content, "nothing is overwritten unasked"
    (out / "study.yaml").unlink()
    with open_folder(out, study, list_cells(out), lambda text: None) as done:
        assert len(done) == 2


def test_reporting_on_a_damaged_study_gives_the_same_way_out(out: Path) -> None:
    (out / "study.yaml").write_text("name: [")
    with pytest.raises(RecordError, match=r"Delete that file and run the study again into this folder"):
        load_study_entry(out, "name")


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "[]", "{"])
def test_a_damaged_list_of_trials_is_written_anew(out: Path, study: Study, content: str) -> None:
    cells = list_cells(out)
    (out / "planned.json").write_text(content)
    with pytest.raises(RecordError, match="Run the study again: finished trials are kept"):
        load_planned(out)
    with open_folder(out, study, cells, lambda text: None) as done:
        assert len(done) == 2
    assert load_planned(out) == cells


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"[" * 100_000])
def test_a_damaged_record_is_told_and_runs_again(out: Path, study: Study, damage: bytes) -> None:
    cells, told = list_cells(out), list[str]()
    first, second = cells
    record_path(out, first).write_bytes(damage)
    predictions_path(out, second).unlink()
    with open_folder(out, study, cells, told.append) as done:
        assert not done
    assert [line.endswith("Its trial runs again now.") for line in told] == [True, True]


def test_folders_of_others_are_refused_and_left_as_they_are(tmp_path: Path, study: Study) -> None:
    def lay(**files: str) -> Path:
        folder = tmp_path / f"other{len(list(tmp_path.iterdir()))}"
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return folder

    for folder, words in (
        (lay(thesis_txt="years of work"), "is not empty and holds no study"),
        (lay(trials__notes_json="{}"), "is not empty and holds no study"),
        (lay(events_jsonl='{"mine": 1}\n'), "is not empty and holds no study"),
        (lay(looks_json='{"mine": 1}\n'), "is not empty and holds no study"),
        (lay(report_html="<title>mine</title>"), "is not empty and holds no study"),
        (lay(study_yaml=study.to_yaml()), "was not written by fewtune and would be overwritten"),
        (lay(study_yaml=study.to_yaml(), notes_txt="mine"), "was not written by fewtune"),
    ):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        with pytest.raises(RecordError, match=words):
            claim_folder(folder, study)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordError, match="is a file"):
        claim_folder(tmp_path / "file", study)


@pytest.mark.parametrize("events", [b"", b"\xff\x00 5\n5\n", b'{"time": 1, "even'])
def test_a_folder_of_which_damage_left_only_names_of_a_study_goes_on(
    out: Path, study: Study, tmp_path: Path, events: bytes
) -> None:
    cells, out = list_cells(out), tmp_path / "left"
    for name in ("trials", "predictions"):
        (out / name).mkdir(parents=True)
    (out / "predictions" / f"{0:016x}.parquet").write_bytes(b"cut")
    (out / "trials" / f".{0:016x}.json.1.part").write_bytes(b"")
    (out / "events.jsonl").write_bytes(events)
    (out / "looks.json").write_bytes(b"")
    (out / "report.html").write_text("<html><title>fewtune report: many</title>")
    with open_folder(out, study, cells, lambda text: None) as done:
        assert not done and load_planned(out) == cells


def test_another_study_is_refused_and_a_grown_one_is_welcome(out: Path, study: Study, tmp_path: Path) -> None:
    claim_folder(out, read(tmp_path, minimal(shots="[16, 32]")))
    with pytest.raises(RecordError, match=r"holds another study \('demo'; it differs in shots\)"):
        claim_folder(out, read(tmp_path, minimal(shots="[32]")))


def test_a_folder_that_another_command_holds_is_refused(out: Path, study: Study) -> None:
    with (
        FileLock(out / LOCK),
        pytest.raises(RecordError, match="another fewtune is running trials"),
        open_folder(out, study, {}, lambda text: None),
    ):
        raise AssertionError("it was held")


def test_what_a_kill_left_half_written_goes_at_the_next_start(
    out: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FEWTUNE_CACHE", str(cache))
    own = [
        "trials/.0123.json.x1.part",
        "predictions/.0123.parquet.x2.part",
        ".study.yaml.x3.part",
        ".planned.json.x.part",
    ]
    shared = [out / ".report.html.x4.part", cache / "fingerprints" / ".ab.x5.part"]
    fits = cache / CHECKPOINTS
    forgotten, resumable = fits / "forgotten.safetensors", fits / "resumable.safetensors"
    kept = [out / "trials" / "notes.part", *(path.with_suffix(".new.part") for path in shared), resumable]
    for path in (*(out / name for name in own), *shared, *kept, forgotten):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    for path in shared:
        os.utime(path, (0, time.time() - STALE_SECONDS - 60))
    os.utime(resumable, (0, time.time() - FORGOTTEN_SECONDS + 3600))
    os.utime(forgotten, (0, time.time() - FORGOTTEN_SECONDS - 60))
    with open_folder(out, study, list_cells(out), lambda text: None):
        pass
    assert not [path for path in (*(out / name for name in own), *shared, forgotten) if path.exists()]
    assert all(path.exists() for path in kept), "a report may be in the writing, and what is not hidden is a user's"
    remove_leftovers(tmp_path / "no such folder")


@pytest.mark.parametrize(
    "harm",
    [
        lambda out: out.rename(out.with_name("moved")),
        lambda out: (out / LOCK).unlink(),
        lambda out: (out.rename(out.with_name("moved")), out.mkdir(), (out / LOCK).touch()),
    ],
    ids=["moved", "emptied", "replaced"],
)
def test_a_folder_that_goes_away_is_noticed(out: Path, harm: Callable[[Path], object]) -> None:
    (out / LOCK).touch()
    presence = Presence(out)
    append_event(out, "started")
    presence.check()
    harm(out)
    with pytest.raises(RecordError, match="was deleted, moved or replaced while its study ran"):
        presence.check()


def test_records_that_are_gone_at_the_end_are_told(out: Path) -> None:
    first, second = list_cells(out)
    check_whole(out, [first, second])
    record_path(out, first).unlink()
    with pytest.raises(RecordError, match="1 of 2 records are gone"):
        check_whole(out, [first, second])
