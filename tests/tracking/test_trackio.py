"""Trackio over a folder: told while a study runs, or afterwards; whole and once, however often it was told."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from command_line import call
from fewtune.records import load_predictions, load_records
from fewtune.report.results import read_result
from fewtune.tracking.base import list_axes, list_metrics, list_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Trackio keeps its runs: it asks once a process."""
    return tmp_path_factory.mktemp("trackio")


def require_equal(study: str, out: Path) -> None:
    """Every trial of the folder is a run of the project, once, with its axes, losses, figures and files."""
    import trackio
    from trackio import cas
    from trackio.sqlite_storage import SQLiteStorage

    told_of = trackio.Api().runs(study)
    runs = {run.config["fewtune.trial_id"]: run for run in told_of if "fewtune.trial_id" in run.config}
    records = load_records(out)
    [decision] = [run.config["decision"] for run in told_of if "decision" in run.config]
    assert decision == read_result(out).answer
    assert len(told_of) - 1 == len(records) == len(runs)
    for record in records:
        run = runs[record.trial_id]
        told = {name: value for name, value in run.config.items() if not name.startswith(("_", "fewtune."))}
        assert told == list_axes(record.trial) | list_settings(record.trial)
        logs = SQLiteStorage.get_logs(study, run.name, run_id=run.id)
        losses = [(each["step"], each["loss"]) for each in logs if "loss" in each]
        assert losses == list(enumerate(record.notes.fit.losses, start=1))
        figures = {name: value for name, value in logs[-1].items() if name not in ("step", "timestamp")}
        assert figures == list_metrics(record)
        [artifact] = SQLiteStorage.get_run_artifacts(study, run.name, run_id=run.id)["output"]
        manifest = SQLiteStorage.get_artifact_manifest(study, artifact["name"], f"v{artifact['version']}")
        assert manifest is not None
        kept = {each["path"]: cas.blob_path(study, each["digest"]) for each in manifest["manifest"]}
        assert json.loads(kept["record.json"].read_text()) == json.loads(record.model_dump_json())
        assert_frame_equal(pl.read_parquet(kept["predictions.parquet"]), load_predictions(out, record.trial_id))


def test_a_study_is_told_as_it_runs_and_another_one_afterwards(
    study_file: Path, tmp_path: Path, folder: Path, no_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--track", "trackio", "--track-uri", str(folder))
    methods = ("--set", "methods=[majority, lora: {epochs: 2}]")
    assert call("run", str(study_file), "--out", str(tmp_path / "live"), *methods, "--set", "name=live", *asked) == 0
    said = capsys.readouterr()
    assert "racker" not in said.err and "dashboard" not in said.out + said.err, "Trackio's own lines are kept back"
    require_equal("live", tmp_path / "live")
    assert call("run", str(study_file), "--out", str(tmp_path / "later"), *methods, "--set", "name=later") == 0
    for told in (4, 0):
        assert call("track", str(tmp_path / "later"), "--to", "trackio", "--uri", str(folder)) == 0
        assert f"{told} of 4 trials told to trackio" in " ".join(capsys.readouterr().out.split())
    require_equal("later", tmp_path / "later")


def test_a_run_whose_files_could_not_be_kept_is_told_again(
    study_file: Path, tmp_path: Path, folder: Path, no_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackio.run import Run

    out = tmp_path / "half"
    assert call("run", str(study_file), "--out", str(out), "--set", "methods=[majority]", "--set", "name=half") == 0
    tell = ("track", str(out), "--to", "trackio", "--uri", str(folder))
    with monkeypatch.context() as patched:
        patched.setattr(Run, "log_artifact", Mock(side_effect=OSError("No space left on device")))
        assert call(*tell) == 2
    assert call(*tell) == 0
    require_equal("half", out)


def test_what_lies_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trials").mkdir()
    with monkeypatch.context() as patched:
        patched.setenv("TRACKIO_SPACE_ID", "somebody/space")
        assert call("track", str(tmp_path), "--to", "trackio") == 2
    assert "TRACKIO_SPACE_ID sends what Trackio is told away" in " ".join(capsys.readouterr().err.split())
    assert call("track", str(tmp_path), "--to", "trackio", "--uri", "http://127.0.0.1:1") == 2
    assert "Give a folder" in capsys.readouterr().err
