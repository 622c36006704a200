"""MLflow's real server over SQLite: down while a study runs, up, filled, equal; and told while one runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from command_line import call
from fewtune.records import Failure, encode_record, load_predictions, load_records
from fewtune.report.results import read_result
from fewtune.tracking.base import list_axes, list_metrics, list_settings
from fewtune.tracking.mlflow import MlflowTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own libraries warn of one another
LONGEST_START = 120.0


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """MLflow's server with an SQLite store in a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", str(folder / "kept")]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + LONGEST_START
        while not is_up(port):
            assert server.poll() is None and time.monotonic() < until, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_equal(uri: str, study: str, out: Path) -> None:
    """Every trial of the folder is a run of the experiment, once, with its axes, figures and files."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs: dict[str, Any] = {
        run.data.tags["fewtune.trial_id"]: run for run in client.search_runs([experiment.experiment_id])
    }
    records = load_records(out)
    assert experiment.tags["fewtune.decision"] == read_result(out).answer
    assert len(client.search_runs([experiment.experiment_id])) == len(records)
    for record in records:
        run = runs[record.trial_id]
        assert run.info.status == "FINISHED" and run.data.tags["fewtune.status"] == "done"
        told = {name.replace(" ", "_"): value for name, value in run.data.params.items()}
        assert told == {
            name: value for name, value in (list_axes(record.trial) | list_settings(record.trial)).items() if value
        }
        assert {name: run.data.metrics[name] for name in list_metrics(record)} == list_metrics(record)
        kept = Path(client.download_artifacts(run.info.run_id, ""))
        assert json.loads((kept / "record.json").read_text()) == json.loads(record.model_dump_json())
        assert_frame_equal(pl.read_parquet(kept / "predictions.parquet"), load_predictions(out, record.trial_id))


def test_a_server_that_was_down_is_filled_and_equal_and_one_that_is_up_is_told_steps(
    study_file: Path, tmp_path: Path, no_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    port = find_port()
    uri = f"http://127.0.0.1:{port}"
    folder = tmp_path / "server"
    folder.mkdir()
    down, up = str(tmp_path / "down"), str(tmp_path / "up")
    asked = ("--track", "mlflow", "--track-uri", uri)
    methods = ("--set", "methods=[majority, lora: {epochs: 2}]", "--set", "data_seeds=[0]")
    assert call("run", str(study_file), "--out", down, *methods, "--set", "name=down", *asked) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "The tracker cannot be told" in told and "'fewtune track' tells it the rest" in told
    with serving(folder, port) as uri:
        assert call("track", down, "--to", "mlflow", "--uri", uri) == 0
        assert "2 of 2 trials told to mlflow" in capsys.readouterr().out
        require_equal(uri, "down", Path(down))
        assert call("track", down, "--to", "mlflow", "--uri", uri) == 0
        assert "0 of 2 trials told to mlflow" in capsys.readouterr().out
        assert call("run", str(study_file), "--out", up, *methods, "--set", "name=up", *asked) == 0
        require_equal(uri, "up", Path(up))
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("up")
        assert experiment is not None
        losses = [
            client.get_metric_history(run.info.run_id, "loss")
            for run in client.search_runs([experiment.experiment_id])
            if run.data.params["method"] == "lora"
        ]
        assert [len({point.step for point in history}) for history in losses] == [2]
        require_last_attempt(client, MlflowTracker("up", uri), Path(up))


def require_last_attempt(client: MlflowClient, tracker: MlflowTracker, out: Path) -> None:
    """A run that was told a failed attempt, and a step twice, is what the record of the next one says."""
    record = next(each for each in load_records(out) if each.trial.method == "lora")
    run_id = tracker.begin("another", record.trial)
    for _ in range(2):
        tracker.step(run_id, 1, 9.0)
    assert len(client.get_metric_history(run_id, "loss")) == 1
    failure = Failure(kind="killed", message="killed by SIGKILL")
    failed = record.model_copy(update={"status": "failed", "failure": failure})
    tracker.end(run_id, failed, encode_record(failed, None))
    assert client.get_run(run_id).data.tags["fewtune.failure"] == "killed by SIGKILL"
    tracker.end(run_id, record, encode_record(record, load_predictions(out, record.trial_id)))
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and "fewtune.failure" not in run.data.tags
    losses = {point.step: point.value for point in client.get_metric_history(run_id, "loss")}
    assert losses == dict(enumerate(record.notes.fit.losses, start=1))
